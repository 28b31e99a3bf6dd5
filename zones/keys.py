"""WireGuard public keys, as text."""

from __future__ import annotations

from base64 import b64decode, b64encode
from binascii import Error
from typing import NewType

from zones.errors import Invalid

KEY_OCTETS = 32  # Curve25519 (RFC 7748 §5)

PublicKey = NewType("PublicKey", str)
"""A WireGuard public key in base64, in the one form that `check_public_key` accepts."""


def check_public_key(text: str, field: str = "public_key") -> PublicKey:
    """``text`` as a public key. Raises `Invalid`. Two texts that it accepts are equal exactly if their keys are."""
    try:
        octets = b64decode(text, validate=True)
    except (Error, ValueError):
        octets = b""
    if len(octets) != KEY_OCTETS or b64encode(octets).decode() != text:
        raise Invalid(
            f"{text!r} is not a public key: it is {KEY_OCTETS} octets in base64, as 'wg pubkey' prints", field=field
        )
    if not any(octets):
        raise Invalid(f"{text!r} is all zeros, which is no key: make one with 'wg genkey | wg pubkey'", field=field)
    return PublicKey(text)
