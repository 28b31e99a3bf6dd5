"""What the kernel's traffic control has on links: labels of BPF filters, and how many packets they have dropped.

It is read often and of every link, so it is read without pyroute2, whose messages take a hundred times as long: a
thousand links take some 5 ms. A request is a struct tcmsg of <linux/rtnetlink.h>; an answer is one with attributes.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Collection, Iterator
from struct import Struct

from agent.system.deadline import SYSTEM_DEADLINE

INGRESS, EGRESS = 0xFFFFFFF2, 0xFFFFFFF3  # TC_H_CLSACT with TC_H_MIN_INGRESS, TC_H_MIN_EGRESS

_GET_QDISC, _GET_FILTER = 38, 46  # RTM_GETQDISC, RTM_GETTFILTER
_REQUEST_DUMP = 0x1 | 0x300  # NLM_F_REQUEST, NLM_F_DUMP
_ERROR, _DONE = 2, 3
_KIND, _OPTIONS, _STATISTICS, _QUEUE, _BPF_NAME = 1, 2, 7, 3, 7  # TCA_…, TCA_STATS_QUEUE, TCA_BPF_NAME
_MESSAGE, _TRAFFIC, _ATTRIBUTE = Struct("=IHHII"), Struct("=BxxxiIII"), Struct("=HH")
_QUEUE_STATISTICS = Struct("=III")  # struct gnet_stats_queue: packets and octets waiting, packets dropped
_NUMBER = Struct("=i")
_NESTED = 0x3FFF  # of an attribute's type, without its flags
_RECEIVE = 1 << 16  # octets


def read_label(sock: socket.socket, index: int, parent: int) -> str | None:
    """The name of the BPF filter on the link ``index``, at `INGRESS` or `EGRESS`; None where there is none.

    ``sock`` is a netlink socket that nobody else reads from. Raises ``OSError``, ``TimeoutError`` among them.
    """
    label = None
    for _, attributes in _dump(sock, _GET_FILTER, index, parent):
        name = _attributes(attributes.get(_OPTIONS, b"")).get(_BPF_NAME)
        label = name.rstrip(b"\0").decode("utf-8", "replace") if name else label
    return label


def count_drops(sock: socket.socket, indices: Collection[int]) -> int:
    """How many packets the filters on the links ``indices`` have dropped; the arguments are those of `read_label`."""
    total = 0
    for index, attributes in _dump(sock, _GET_QDISC, 0, 0):
        if index in indices and attributes.get(_KIND) == b"clsact\0":
            queue = _attributes(attributes.get(_STATISTICS, b"")).get(_QUEUE)
            total += _QUEUE_STATISTICS.unpack_from(queue)[2] if queue else 0
    return total


def _dump(sock: socket.socket, kind: int, index: int, parent: int) -> Iterator[tuple[int, dict[int, bytes]]]:
    """The link and the attributes of each answer."""
    sock.settimeout(SYSTEM_DEADLINE)
    request = _TRAFFIC.pack(0, index, 0, parent, 0)
    sock.send(_MESSAGE.pack(_MESSAGE.size + len(request), kind, _REQUEST_DUMP, 0, 0) + request)
    while True:
        received, at = sock.recv(_RECEIVE), 0
        while at + _MESSAGE.size <= len(received):
            size, answer, *_ = _MESSAGE.unpack_from(received, at)
            body = at + _MESSAGE.size
            if answer == _DONE:
                return
            if answer == _ERROR or size < _MESSAGE.size:
                number = -_NUMBER.unpack_from(received, body)[0] or errno.EPROTO
                raise OSError(number, os.strerror(number))
            _, link, *_ = _TRAFFIC.unpack_from(received, body)
            yield link, _attributes(received[body + _TRAFFIC.size : at + size])
            at += size + (-size % 4)


def _attributes(octets: bytes) -> dict[int, bytes]:
    found, at = {}, 0
    while at + _ATTRIBUTE.size <= len(octets):
        length, kind = _ATTRIBUTE.unpack_from(octets, at)
        found[kind & _NESTED] = octets[at + _ATTRIBUTE.size : at + length]
        at += max(_ATTRIBUTE.size, length + (-length % 4))
    return found
