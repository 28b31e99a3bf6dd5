"""The credential on the disk: whole, private, and refused where it is not."""

from __future__ import annotations

import stat

import pytest

from agent.control_plane.credential import AUTHORITY, HOST, CredentialFiles, HostKey, trusting
from agent.errors import CannotStart


def test_it_is_kept_for_root_alone(files: CredentialFiles) -> None:
    assert files.exist
    for name in (HOST, AUTHORITY):
        assert stat.S_IMODE((files.directory / name).stat().st_mode) == 0o600
    assert files.owner() == "h1"
    files.context()


def test_a_key_that_others_can_read_is_refused(files: CredentialFiles) -> None:
    (files.directory / HOST).chmod(0o640)
    with pytest.raises(CannotStart, match="can be read by others"):
        files.context()


@pytest.mark.parametrize("name", [HOST, AUTHORITY])
@pytest.mark.parametrize("content", [b"", b"-----BEGIN CERTIFICATE-----\nno\n-----END CERTIFICATE-----\n", b"\xff"])
def test_a_damaged_file_is_refused(files: CredentialFiles, name: str, content: bytes) -> None:
    (files.directory / name).write_bytes(content)
    with pytest.raises(CannotStart, match="enrol this host anew"):
        files.context()


def test_a_removed_credential_is_gone(files: CredentialFiles) -> None:
    files.remove()
    files.remove()
    assert not files.exist
    with pytest.raises(CannotStart, match="No such file"):
        files.context()


def test_what_is_no_certificate_is_not_trusted() -> None:
    with pytest.raises(ValueError, match="no certificate"):
        trusting("-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n")


def test_a_key_is_not_shown_by_accident() -> None:
    key = HostKey.make("h1")
    assert b"PRIVATE KEY" in key.pem
    assert "PRIVATE KEY" not in repr(key)
