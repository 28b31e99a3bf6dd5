"""The token by which a host is enrolled: a secret that can be used once, and the authority that the host is to trust.

It goes to the host by whatever way the operator trusts. So the host knows the control plane from its first connection,
and the control plane the host.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass, field
from hashlib import sha256

from watcher.session.errors import BadToken

PREFIX = "ile_"  # so that whoever finds one knows what it is; no API token begins so
SECRET_OCTETS, DIGEST_OCTETS = 16, 32
LENGTH = len(PREFIX) + (SECRET_OCTETS + DIGEST_OCTETS) * 4 // 3  # characters; base64 needs no padding for 48 octets

_TOKEN = re.compile(PREFIX + "[A-Za-z0-9_-]+")


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
        given = text.strip()
        if not given.startswith(PREFIX):
            raise BadToken(f"this is no enrolment token: one begins with {PREFIX}, as 'interlock host enrol' prints it")
        if len(given) != LENGTH:
            raise BadToken(
                f"this is not the whole enrolment token, or more than it: it has {len(given)} characters, and one has"
                f" {LENGTH}: copy the line that 'interlock host enrol' prints"
            )
        if not _TOKEN.fullmatch(given):
            raise BadToken(
                "this is no enrolment token: a character in it is not one of A-Z, a-z, 0-9, - and _: copy the line that"
                " 'interlock host enrol' prints"
            )
        octets = urlsafe_b64decode(given.removeprefix(PREFIX))
        return cls(octets[:SECRET_OCTETS], octets[SECRET_OCTETS:])

    @property
    def digest(self) -> str:
        """By what the store knows the secret: its SHA-256, in hexadecimal digits."""
        return sha256(self.secret).hexdigest()

    def __str__(self) -> str:
        return PREFIX + urlsafe_b64encode(self.secret + self.authority).decode()
