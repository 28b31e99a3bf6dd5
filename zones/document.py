"""The document of an environment: its model as JSON, and the digest by which two of them are told apart."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from ipaddress import IPv6Network
from typing import Any

import msgspec

from zones.addresses import Address
from zones.errors import Invalid
from zones.model import Environment


def encode(environment: Environment) -> bytes:
    """The document of ``environment``."""
    return _encoder.encode(environment)


def decode(document: bytes) -> Environment:
    """The environment that ``document`` holds. Raises `Invalid`, naming the field and the rule."""
    try:
        return _decoder.decode(document)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:  # msgspec lets the latter through
        raise Invalid(f"not a document of an environment: {error}") from None


def digest(document: bytes) -> str:
    """Which document this is: equal exactly for equal documents."""
    return hashlib.blake2b(document, digest_size=16).hexdigest()


def encode_value(value: Any) -> Any:
    """How the types of the model that JSON does not know are written. For ``enc_hook``."""
    if isinstance(value, Address | IPv6Network):
        return str(value)
    raise NotImplementedError(type(value))


def decode_value(kind: type, value: Any) -> Any:
    """The way back from `encode_value`. For ``dec_hook``; an error becomes a message with the field's path."""
    if kind is Address:
        return Address.parse(value)
    if kind is IPv6Network:
        return _parse_network(value)
    raise NotImplementedError(kind)


# An environment's networks are read again with each of its commits, and reading one takes as long as all the rest of a
# service. They are immutable, so one object serves all documents.
_parse_network = lru_cache(maxsize=1 << 17)(IPv6Network)

_encoder = msgspec.json.Encoder(enc_hook=encode_value)
_decoder = msgspec.json.Decoder(Environment, dec_hook=decode_value)
