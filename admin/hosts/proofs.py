"""The proof that a host has the private half of a WireGuard key: `watcher.session.protocol.key_proof_input` says how.

This adapts X25519 of cryptography to it.
"""

from __future__ import annotations

import hmac
from base64 import b64decode, b64encode
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from watcher.session.protocol import key_proof_input
from zones.keys import PublicKey


@dataclass(frozen=True, slots=True)
class Challenge:
    """The key pair of one session, of which the host is sent the public half."""

    _key: X25519PrivateKey = field(repr=False, default_factory=X25519PrivateKey.generate)

    @property
    def public(self) -> PublicKey:
        """What the host is sent."""
        return PublicKey(b64encode(self._key.public_key().public_bytes_raw()).decode())

    def is_met(self, host: str, key: PublicKey, proof: str) -> bool:
        """Whether ``proof`` shows that ``host`` has the private half of ``key``."""
        try:
            shared = self._key.exchange(X25519PublicKey.from_public_bytes(b64decode(key)))
        except ValueError:  # a point of small order, whose shared secret anybody can compute (RFC 7748 §6.1)
            return False
        wanted = hmac.new(shared, key_proof_input(host, key), "sha256").hexdigest()
        return hmac.compare_digest(wanted.encode(), proof.encode())
