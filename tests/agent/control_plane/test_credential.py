"""The credential on the disk: whole, private, and refused where it is not."""

from __future__ import annotations

import ssl
import stat
from hashlib import sha256

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
    with pytest.raises(CannotStart, match=r"others may have read the key in .*: run 'interlock host enrol'"):
        files.context()


@pytest.mark.parametrize("name", [HOST, AUTHORITY])
@pytest.mark.parametrize("content", [b"", b"-----BEGIN CERTIFICATE-----\nno\n-----END CERTIFICATE-----\n", b"\xff"])
def test_a_damaged_file_is_refused(files: CredentialFiles, name: str, content: bytes) -> None:
    (files.directory / name).write_bytes(content)
    for read in (files.context, files.owner) if name == HOST else (files.context,):
        with pytest.raises(CannotStart, match=r"damaged: run 'interlock host enrol' for this host.*--enrol TOKEN"):
            read()


def test_a_token_of_another_authority_is_told(files: CredentialFiles) -> None:
    der = ssl.PEM_cert_to_DER_cert((files.directory / AUTHORITY).read_text("ascii"))
    files.check_authority(sha256(der).digest())
    with pytest.raises(CannotStart, match=r"remove host\.pem and authority\.pem from that directory"):
        files.check_authority(b"d" * 32)


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
