"""The identity of a host when its agent starts: by its keys, and by what the control plane has of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from agent.control_plane.connection import ControlPlane
from agent.errors import CannotStart
from agent.identity import Identity, load_identity, register
from agent.keys import NEXT_KEY, Keyring, PrivateKey
from tests.agent.control_plane.plane import CHALLENGE, Plane
from tests.worlds import make_host as host
from watcher.session.protocol import Answer, Counted, Failure, Hello, Register, Renew, Renewed, Request
from zones.hosts import Host

ENDPOINT = "192.0.2.1:51820"


async def loaded(control: ControlPlane, directory: Path, endpoint: str = ENDPOINT) -> Identity:
    return await load_identity(control, Keyring(directory), "h1", endpoint, "eu", is_admitted=False)


def grant(request: Request) -> Answer | Failure:
    """Grants the lease, and registers."""
    return Renewed(request.number, 1000) if isinstance(request, Renew) else Counted(request.number, 1)


async def begun(plane: Plane, control: ControlPlane, known: Host | None) -> None:
    """A session that has begun with the document ``known``."""
    plane.answers, plane.host = grant, known
    await control.begin_anew()


async def test_a_new_host_makes_its_key_keeps_it_and_registers(
    plane: Plane, control: ControlPlane, tmp_path: Path
) -> None:
    await begun(plane, control, None)
    first = await loaded(control, tmp_path)
    assert first.host == Host("h1", ENDPOINT, first.key.public, region="eu")
    assert first.is_admitted
    renewed, registered = [one for one in plane.requests if not isinstance(one, Hello)]
    assert isinstance(renewed, Renew)
    assert not renewed.is_able
    assert isinstance(registered, Register)
    assert registered.host == first.host
    assert registered.proofs == {first.key.public: first.key.prove("h1", CHALLENGE)}
    assert (await loaded(control, tmp_path)).key == first.key


async def test_the_port_and_the_underlay_are_those_of_the_endpoint(
    plane: Plane, control: ControlPlane, tmp_path: Path
) -> None:
    plane.answers = grant
    identity = await loaded(control, tmp_path, endpoint="[2001:db8::1]:4500")
    assert (identity.port, identity.underlay) == (4500, "2001:db8::1")


async def test_a_name_that_another_living_host_has_is_refused(
    plane: Plane, control: ControlPlane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.identity.CLAIM_DEADLINE", 0.3)
    await begun(plane, control, host(1, endpoint="192.0.2.9:51820"))
    plane.answers = lambda request: Failure(request.number, "lease", "another agent is the host 'h1', and lives")
    with pytest.raises(CannotStart, match=r"the host 'h1', and lives, at 192\.0\.2\.9:51820: .* another --host"):
        await loaded(control, tmp_path)


async def test_a_key_that_another_host_has_keeps_the_agent_from_starting(
    plane: Plane, control: ControlPlane, tmp_path: Path
) -> None:
    def refuse(request: Request) -> Answer | Failure:
        return grant(request) if isinstance(request, Renew) else Failure(request.number, "taken", "host 'h2' has it")

    plane.answers = refuse
    with pytest.raises(CannotStart, match="host 'h2' has it"):
        await loaded(control, tmp_path)


async def test_a_host_that_was_being_drained_still_is(plane: Plane, control: ControlPlane, tmp_path: Path) -> None:
    await begun(plane, control, host(1, draining=True))
    assert (await loaded(control, tmp_path)).host.draining


async def test_a_rotation_that_came_as_far_as_the_control_plane_is_finished(
    plane: Plane, control: ControlPlane, tmp_path: Path
) -> None:
    keyring = Keyring(tmp_path)
    keyring.load()
    upcoming = keyring.prepare()
    await begun(plane, control, host(1, public_key=upcoming.public))
    assert (await loaded(control, tmp_path)).key == upcoming
    assert not (tmp_path / NEXT_KEY).exists()


async def test_a_rotation_that_had_only_been_announced_is_taken_back(
    plane: Plane, control: ControlPlane, tmp_path: Path
) -> None:
    keyring = Keyring(tmp_path)
    key, upcoming = keyring.load(), keyring.prepare()
    await begun(plane, control, host(1, public_key=key.public, next_public_key=upcoming.public))
    again = await loaded(control, tmp_path)
    assert (again.key, again.host.next_public_key) == (key, None)
    assert not (tmp_path / NEXT_KEY).exists()


async def test_both_keys_of_a_rotation_are_proved(plane: Plane, control: ControlPlane) -> None:
    plane.answers = grant
    key, upcoming = PrivateKey.generate(), PrivateKey.generate()
    identity = Identity(host(1, public_key=key.public), key, is_admitted=True, next_key=upcoming)
    await register(control, identity, replace(identity.host, next_public_key=upcoming.public))
    asked = plane.requests[-1]
    assert isinstance(asked, Register)
    assert asked.proofs == {one.public: one.prove("h1", CHALLENGE) for one in (key, upcoming)}


async def test_with_the_control_plane_away_the_key_is_enough(away: ControlPlane, tmp_path: Path) -> None:
    keyring = Keyring(tmp_path)
    keyring.load()
    keyring.prepare()
    identity = await loaded(away, tmp_path)
    assert identity.host.public_key == identity.key.public
    assert not identity.is_admitted
    assert (tmp_path / NEXT_KEY).exists()  # nobody can tell how far the rotation came
