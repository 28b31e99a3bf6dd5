"""The document of an environment: its model as JSON, and a digest that tells two documents apart."""

from __future__ import annotations

import hashlib
import weakref
from functools import lru_cache
from ipaddress import IPv6Network
from typing import Any

import msgspec

from zones.addresses import Address, read_network
from zones.errors import Invalid
from zones.model import SCHEMA, Environment


def encode(environment: Environment) -> bytes:
    """The document of ``environment``."""
    return _encoder.encode(environment)


def decode(document: bytes) -> Environment:
    """The environment that ``document`` holds. Raises `Invalid`, naming the field and the rule."""
    try:
        return _decoder.decode(document)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:  # msgspec does not convert the latter
        raise Invalid(_explain(document, str(error))) from None


def _explain(document: bytes, error: str) -> str:
    """Why ``document`` cannot be read: above all, whether a newer release wrote it."""
    try:
        schema = msgspec.json.decode(document, type=_Schema).schema
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        schema = SCHEMA
    if schema > SCHEMA:
        return (
            f"the document has schema {schema}, and this release reads schema {SCHEMA}: a newer release wrote it, so"
            " upgrade this process to that release"
        )
    if any(sign in error for sign in _UNKNOWN):
        return (
            f"{error}: this release does not know that; if a newer release wrote it, upgrade this process to that one"
        )
    return f"not a document of an environment: {error}"


def digest(document: bytes) -> str:
    """The digest of ``document``, which is equal exactly for equal documents."""
    return hashlib.blake2b(document, digest_size=16).hexdigest()


def digest_of(environment: Environment) -> str:
    """The digest of the document of ``environment``: known where that was read or written, else computed once."""
    known = _digests.get(id(environment))
    if known is not None and known[0]() is environment:
        return known[1]
    computed = digest(encode(environment))
    remember_digest(environment, computed)
    return computed


def remember_digest(environment: Environment, known: str) -> None:
    """The document of ``environment``, this very object, has the digest ``known``."""
    key = id(environment)
    _digests[key] = weakref.ref(environment, lambda _: _digests.pop(key, None)), known


def encode_value(value: Any) -> Any:
    """Writes the model's types that JSON does not know, as text. For msgspec's ``enc_hook``."""
    if isinstance(value, Address | IPv6Network):
        return str(value)
    raise NotImplementedError(type(value))


def decode_value(kind: type, value: Any) -> Any:
    """Reads what `encode_value` wrote. For msgspec's ``dec_hook``, which adds the field's path to the error text."""
    if kind is Address:
        return Address.parse(value)
    if kind is IPv6Network:
        return _parse_network(value)
    raise NotImplementedError(kind)


# Each commit makes the document be read again. Networks are immutable, so one object can stand in all documents.
_parse_network = lru_cache(maxsize=1 << 17)(read_network)

_UNKNOWN = ("unknown field", "Invalid enum value")  # in the words of msgspec: what a later release may have added


# To encode a large environment takes a tenth of a second, and each reply about it names its digest.
_digests: dict[int, tuple[weakref.ref[Environment], str]] = {}


class _Schema(msgspec.Struct):
    """What documents of all releases have."""

    schema: int = SCHEMA


_encoder = msgspec.json.Encoder(enc_hook=encode_value)
_decoder = msgspec.json.Decoder(Environment, dec_hook=decode_value)
