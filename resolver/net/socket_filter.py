"""Filters of a socket (classic BPF, socket(7) ``SO_ATTACH_FILTER``): the kernel drops packets where they are sent.

They need no privilege. Who is dropped is decided by the `shield`.
"""

from __future__ import annotations

import socket
import struct
from array import array
from collections.abc import Iterable

_ATTACH_FILTER, _DETACH_FILTER = 26, 27  # <asm-generic/socket.h>
_NETWORK_HEADER, _RANDOM = 0xFFF00000, 0xFFFFF038  # <linux/filter.h>, SKF_NET_OFF, SKF_AD_OFF + SKF_AD_RANDOM
_LOAD, _RETURN = 0x20, 0x06  # <linux/bpf_common.h>: LD|W|ABS, RET|K
_JUMP_IF_EQUAL, _JUMP_IF_GREATER = 0x15, 0x25  # JMP|JEQ|K, JMP|JGT|K
_ALL = 0xFFFFFFFF  # octets that pass


def set_filter(sock: socket.socket, program: bytes) -> None:
    """Has ``program`` decide which packets reach ``sock``; an empty one ends that. Raises ``OSError``."""
    if not program:
        sock.setsockopt(socket.SOL_SOCKET, _DETACH_FILTER, 0)
        return
    instructions = array("B", program)  # stays until the kernel has read it
    address, octets = instructions.buffer_info()
    sock.setsockopt(socket.SOL_SOCKET, _ATTACH_FILTER, struct.pack("HP", octets // 8, address))


def packed_filter(dropped: Iterable[bytes], thinned: Iterable[bytes], share: int) -> bytes:
    """The instructions that drop the packets of some sources, let one of ``share`` of others pass, and the rest too.

    The sources are all IPv4 or all IPv6.
    """
    drop, let_pass = _instruction(_RETURN, 0), _instruction(_RETURN, _ALL)
    thin = _instruction(_LOAD, _RANDOM) + _instruction(_JUMP_IF_GREATER, _ALL // share, otherwise=1) + drop + let_pass
    return b"".join([*(_of(one, drop) for one in dropped), *(_of(one, thin) for one in thinned), let_pass])


def _of(source: bytes, action: bytes) -> bytes:
    """The instructions that do ``action`` with the packets of ``source``."""
    words = struct.unpack(f"!{len(source) // 4}I", source)
    first = _NETWORK_HEADER + (8 if len(source) == 16 else 12)  # where the header has the source (RFC 8200, RFC 791)
    instructions = b""
    for number, word in enumerate(words):
        left = 2 * (len(words) - number - 1) + len(action) // 8  # instructions until the next source's
        instructions += _instruction(_LOAD, first + 4 * number) + _instruction(_JUMP_IF_EQUAL, word, otherwise=left)
    return instructions + action


def _instruction(code: int, operand: int, *, otherwise: int = 0) -> bytes:
    """A struct sock_filter: a jump goes on with the next instruction, or skips as many as ``otherwise`` says."""
    return struct.pack("=HBBI", code, 0, otherwise, operand)
