"""The credential of this host: by it a control plane knows the host, and by the authority the host a control plane.

    host.pem         the private key (EC P-256) and the certificate, in one file, so that both are replaced at once
    authority.pem    the certificate of the platform's authority

This is the adapter to cryptography for certificates; `agent.keys` is the one for WireGuard's keys.
"""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from agent.errors import CannotStart
from support.files import remove_partial, write_whole

HOST, AUTHORITY = "host.pem", "authority.pem"
NEXT = "host.next.pem"  # has the room for what will be HOST
ROOM = 4096  # octets, of which a key and its certificate take a fourth
PRIVATE = 0o600


@dataclass(frozen=True, slots=True)
class HostKey:
    """A private key that a certificate is asked for. It is never logged, and does not leave this machine."""

    pem: bytes = field(repr=False)
    """The key in PEM (PKCS #8)."""
    request: str
    """A certificate signing request (RFC 2986) for it, in PEM."""

    @classmethod
    def make(cls, host: str) -> HostKey:
        """A new key of the host ``host``."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
        request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return cls(pem, request.public_bytes(serialization.Encoding.PEM).decode("ascii"))


@dataclass(frozen=True, slots=True)
class CredentialFiles:
    """Where the credential lies. All functions block."""

    directory: Path
    """The state directory of the agent."""

    @property
    def exist(self) -> bool:
        """Whether this host is enrolled."""
        return (self.directory / HOST).exists() and (self.directory / AUTHORITY).exists()

    def remove_partials(self) -> None:
        """Removes what a killed agent was writing: a private key may be in it, and nobody would ever remove it."""
        for name in (HOST, NEXT, AUTHORITY):
            remove_partial(self.directory / name)

    def make_room(self, authority: str | None = None) -> None:
        """Takes the room on the disk that `keep` needs, and keeps ``authority`` there. Raises ``OSError``.

        A certificate is asked for after that: a token that is used up is not lost because the disk is full.
        """
        if authority is not None:
            write_whole(self.directory / AUTHORITY, authority.encode("ascii"), PRIVATE)
        write_whole(self.directory / NEXT, b" " * ROOM, PRIVATE)

    def keep(self, key: HostKey, certificate: str) -> None:
        """Keeps ``key`` with ``certificate``, in the room that was made for them. Raises ``OSError``."""
        written = key.pem + certificate.encode("ascii")
        path = self.directory / NEXT
        with path.open("r+b") as file:
            file.write(written)
            file.truncate(len(written))
            file.flush()
            os.fsync(file.fileno())
        path.replace(self.directory / HOST)

    def context(self) -> ssl.SSLContext:
        """For a connection to a control plane, on which the host shows its certificate. Raises `CannotStart`."""
        path = self.directory / HOST
        try:
            if path.stat().st_mode & 0o077:
                raise CannotStart(f"others may have read the key in {path}: {self.remedy}")
            context = trusting((self.directory / AUTHORITY).read_text("ascii"))
            context.load_cert_chain(path)
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            reason = "a file of it is damaged"
            if isinstance(error, OSError) and not isinstance(error, ssl.SSLError):
                reason = os.strerror(error.errno or 0)
            raise CannotStart(f"the credential in {self.directory} cannot be used: {reason}: {self.remedy}") from None
        return context

    @property
    def remedy(self) -> str:
        """What to do where the credential is good for nothing any more."""
        return (
            f"run 'interlock host enrol' for this host where the admin token is, remove {HOST} and {AUTHORITY} from"
            f" {self.directory}, and start the agent with --enrol TOKEN"
        )

    def owner(self) -> str:
        """The host that the certificate is of. Raises `CannotStart`."""
        try:
            certificate = x509.load_pem_x509_certificate((self.directory / HOST).read_bytes())
            (name,) = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        except OSError as error:
            raise CannotStart(f"{self.directory / HOST} cannot be read: {error.strerror}: correct that") from None
        except ValueError:
            raise CannotStart(f"{self.directory / HOST} is damaged: {self.remedy}") from None
        return str(name.value)

    def check_authority(self, digest: bytes) -> None:
        """Raises `CannotStart` if the credential is not of the authority whose certificate has the SHA-256 ``digest``.

        One that cannot be read is left to `context`.
        """
        try:
            known = ssl.PEM_cert_to_DER_cert((self.directory / AUTHORITY).read_text("ascii"))
        except (OSError, ValueError):
            return
        if sha256(known).digest() != digest:
            raise CannotStart(
                f"the token of --enrol is of another platform than the credential in {self.directory}, or of the same"
                f" one after its data were lost: to enrol this host there, remove {HOST} and {AUTHORITY} from that"
                " directory and start the agent again; to stay, start it without --enrol"
            )

    def remove(self) -> None:
        """Removes the credential from the disk."""
        for name in (HOST, NEXT, AUTHORITY):
            (self.directory / name).unlink(missing_ok=True)


def trusting(authority: str) -> ssl.SSLContext:
    """For a connection to a server whose certificate ``authority`` (PEM) has signed. Raises ``ValueError``."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # which checks the chain, the use of the key and the name
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_verify_locations(cadata=authority)
    except ssl.SSLError as error:
        raise ValueError(f"no certificate of an authority: {error}") from None
    return context
