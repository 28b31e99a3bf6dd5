"""The outline of a message (RFC 1035 §4.1): its header, and where its question ends."""

from __future__ import annotations

from struct import Struct

from zones.names import MAX_LABEL, MAX_NAME

HEADER = Struct("!HHHHHH")
"""ID, flags, and the number of records in question, answer, authority and additional."""

OPT = 41  # the type of the record that EDNS is (RFC 6891 §6.1)
EXTENDED_ERROR = 15  # the EDNS option that says why (RFC 8914 §2)
DNSSEC_OK = 0x8000  # the bit DO, in the lower half of the TTL of OPT (RFC 6891 §6.1.4)
MAXIMUM_UDP = 1232  # octets that no path on the Internet fragments (RFC 9715 §3.2); also what we say that we take


class Flag:
    """Bits of the second word of a header (RFC 1035 §4.1.1, RFC 4035 §3)."""

    QR = 0x8000
    OPCODE = 0x7800  # four bits; 0 is a query
    AA = 0x0400
    TC = 0x0200
    RD = 0x0100
    RA = 0x0080
    AD = 0x0020
    CD = 0x0010


def is_truncated(packet: bytes) -> bool:
    """Whether the reply ``packet`` is truncated (TC): the whole answer can be had over TCP."""
    return len(packet) >= HEADER.size and bool(HEADER.unpack_from(packet)[1] & Flag.TC)


def skip_name(packet: bytes, offset: int) -> int | None:
    """Where the uncompressed name at ``offset`` ends; None if it is no such name. Nothing precedes the question."""
    end = min(len(packet), offset + MAX_NAME)
    while offset < end:
        length = packet[offset]
        offset += 1 + length
        if length == 0:
            return offset
        if length > MAX_LABEL:
            return None
    return None
