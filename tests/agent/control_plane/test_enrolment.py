"""Enrolment over real TLS: by the token once, and only at a control plane of the platform that made the token."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.control_plane import enrolment
from agent.control_plane.credential import CredentialFiles
from agent.control_plane.enrolment import enrol
from agent.errors import CannotStart
from tests.agent.control_plane.plane import Plane, Signer, running
from watcher.session.token import EnrolmentToken

NOBODY = "https://127.0.0.1:9"  # a port on which nothing listens


@pytest.fixture
def new(tmp_path: Path) -> CredentialFiles:
    """Where a host that is not enrolled yet keeps its credential."""
    return CredentialFiles(tmp_path)


async def test_a_host_is_enrolled_and_has_its_credential(plane: Plane, new: CredentialFiles) -> None:
    await enrol([plane.url], "h1", plane.authority.token, new)
    assert (new.owner(), plane.enrolled[0].host) == ("h1", "h1")
    new.context()


async def test_a_used_token_is_refused_with_what_the_control_plane_says(plane: Plane, new: CredentialFiles) -> None:
    await enrol([plane.url], "h1", plane.authority.token, new)
    with pytest.raises(CannotStart, match="does not enrol this host as 'h2': the token was used already"):
        await enrol([plane.url], "h2", plane.authority.token, new)


async def test_a_control_plane_of_another_authority_does_not_see_the_token(plane: Plane, new: CredentialFiles) -> None:
    other = EnrolmentToken(plane.authority.token.secret, b"d" * 32)
    with pytest.raises(CannotStart, match="its authority is not the one that made the token"):
        await enrol([plane.url], "h1", other, new)
    assert not plane.enrolled
    assert not new.exist


async def test_a_server_that_is_no_control_plane_does_not_see_the_token(
    authority: Signer, tmp_path: Path, new: CredentialFiles
) -> None:
    async with running(Plane(authority), tmp_path, name="h9.example") as plane:
        with pytest.raises(CannotStart, match="it is no control plane"):
            await enrol([plane.url], "h1", authority.token, new)
        assert not plane.enrolled


async def test_the_others_are_tried_and_then_it_is_said_why(
    plane: Plane, new: CredentialFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    await enrol([NOBODY, plane.url], "h1", plane.authority.token, new)
    monkeypatch.setattr(enrolment, "ATTEMPTS", 2)
    monkeypatch.setattr(enrolment, "ATTEMPTS_EVERY", 0.01)
    with pytest.raises(CannotStart, match=r"no control plane could be asked to enrol this host: .*127\.0\.0\.1:9"):
        await enrol([NOBODY], "h1", plane.authority.token, new)


async def test_no_object_of_the_program_is_shown(
    authority: Signer, tmp_path: Path, new: CredentialFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(enrolment, "ATTEMPTS", 1)
    async with running(Plane(authority), tmp_path, name="h9.example") as plane:
        for url in (NOBODY, plane.url, "https://nosuch.invalid", plane.url.replace("https", "http")):
            with pytest.raises(CannotStart) as error:
                await enrol([url], "h1", authority.token, new)
            assert not [word for word in ("ssl:", "SSLContext", "object at", "_ssl.c") if word in str(error.value)]


def test_what_a_killed_agent_was_writing_is_removed(new: CredentialFiles) -> None:
    new.make_room("authority")
    partial = new.directory / ".host.next.pem.b67f32b524d2"
    partial.write_bytes(b"a private key")
    new.remove_partials()
    assert {path.name for path in new.directory.iterdir()} == {"host.next.pem", "authority.pem"}
