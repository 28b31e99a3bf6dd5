"""The TTLs in a packed reply: where they stand, and the reply with all of them counted down."""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct

from resolver.wire.header import OPT

_COUNTS = Struct("!2x4H")  # the numbers of records in each section, after the flags
_RECORD = Struct("!H2xIH")  # type, TTL and length of the data, after the owner; the class is passed over
_TTL = Struct("!I")
_TTL_IN_RECORD = 4  # octets after the owner


def find_ttls(packed: bytes) -> Sequence[int]:
    """Where in ``packed``, one of our replies without its ID, the TTLs are. The field of OPT is none (RFC 6891 §6.1.3).

    It is no reader of other people's messages, for it trusts what it reads.
    """
    questions, *records = _COUNTS.unpack_from(packed)
    at = _COUNTS.size
    for _ in range(questions):
        at = _skip_name(packed, at) + 4
    found = []
    for _ in range(sum(records)):
        at = _skip_name(packed, at)
        rtype, _ttl, length = _RECORD.unpack_from(packed, at)
        if rtype != OPT:
            found.append(at + _TTL_IN_RECORD)
        at += _RECORD.size + length
    return found


def count_down(packed: bytes, ttls: Sequence[int], seconds: int) -> bytes:
    """``packed`` with each of the ``ttls`` in it less by ``seconds``, and 1 at least."""
    octets = bytearray(packed)
    for at in ttls:
        (ttl,) = _TTL.unpack_from(octets, at)
        _TTL.pack_into(octets, at, max(1, ttl - seconds))
    return bytes(octets)


def _skip_name(packed: bytes, at: int) -> int:
    while length := packed[at]:
        if length >= 0xC0:
            return at + 2
        at += 1 + length
    return at + 1
