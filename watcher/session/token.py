"""The token by which a host is enrolled: a secret that can be used once, and the authority that the host is to trust.

It goes to the host by whatever way the operator trusts. So the host knows the control plane from its first connection,
and the control plane the host.
"""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass, field
from hashlib import sha256

from watcher.session.errors import BadToken

PREFIX = "ile_"  # so that whoever finds one knows what it is; no API token begins so
SECRET_OCTETS, DIGEST_OCTETS = 16, 32


@dataclass(frozen=True, slots=True)
class EnrolmentToken:
    """What ``interlock host enrol`` prints."""

    secret: bytes = field(repr=False)
    """Known to the operator and the host alone; the store has its SHA-256."""
    authority: bytes
    """SHA-256 of the certificate of the platform's authority, in DER."""

    @classmethod
    def parse(cls, text: str) -> EnrolmentToken:
        """The token that ``text`` is. Raises `BadToken`, with a message that does not show ``text``."""
        try:
            octets = urlsafe_b64decode(text.strip().removeprefix(PREFIX))
        except ValueError:
            octets = b""
        if not text.strip().startswith(PREFIX) or len(octets) != SECRET_OCTETS + DIGEST_OCTETS:
            raise BadToken(f"this is no enrolment token: it begins with {PREFIX}, as 'interlock host enrol' prints it")
        return cls(octets[:SECRET_OCTETS], octets[SECRET_OCTETS:])

    @property
    def digest(self) -> str:
        """By what the store knows the secret: its SHA-256, in hexadecimal digits."""
        return sha256(self.secret).hexdigest()

    def __str__(self) -> str:
        return PREFIX + urlsafe_b64encode(self.secret + self.authority).decode()
