"""What the kernel's traffic control has on links: labels of BPF filters, and how many packets they have dropped.

It is read often and of every link: a thousand links take some 5 ms. A request is a struct tcmsg of
<linux/rtnetlink.h>; an answer is one with attributes.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from socket import htons
from struct import Struct

from agent.system.deadline import SYSTEM_DEADLINE
from agent.system.netlink_socket import (
    ACK,
    CREATE,
    DUMP,
    EXCLUSIVE,
    REPLACE,
    NetlinkSocket,
    attributes,
    nested,
    number,
    text,
)
from agent.system.route_messages import Request

INGRESS, EGRESS = 0xFFFFFFF2, 0xFFFFFFF3  # TC_H_CLSACT with TC_H_MIN_INGRESS, TC_H_MIN_EGRESS

_NEW_QDISC, _GET_QDISC, _NEW_FILTER, _GET_FILTER = 36, 38, 44, 46  # RTM_NEWQDISC and so on
_KIND, _OPTIONS, _STATISTICS, _QUEUE = 1, 2, 7, 3  # TCA_KIND, TCA_OPTIONS, TCA_STATS2, TCA_STATS_QUEUE
_BPF_FD, _BPF_NAME, _BPF_FLAGS, _DIRECT_ACTION = 6, 7, 8, 1  # TCA_BPF_…
_CLSACT, _CLSACT_HANDLE = 0xFFFFFFF1, 0xFFFF0000  # TC_H_CLSACT, and the handle of that queueing discipline
_FIRST_OF_ALL_PROTOCOLS = 1 << 16 | htons(3)  # priority 1, ETH_P_ALL
_TRAFFIC = Struct("=BxxxiIII")  # struct tcmsg: family, link, handle, parent, info
_QUEUE_STATISTICS = Struct("=III")  # struct gnet_stats_queue: packets and octets waiting, packets dropped


def add_clsact(index: int) -> Request:
    """Adds to the link ``index`` what filters are put on. It is refused with EEXIST where the link has it."""
    body = _TRAFFIC.pack(0, index, _CLSACT_HANDLE, _CLSACT, 0) + text(_KIND, "clsact")
    return Request(_NEW_QDISC, body, ACK | CREATE | EXCLUSIVE)


def set_bpf(index: int, parent: int, program: int, label: str) -> Request:
    """Puts the BPF program on the link ``index``, at `INGRESS` or `EGRESS`, in place of an earlier one.

    ``program`` is its descriptor, and ``label`` its name.
    """
    options = nested(_OPTIONS, number(_BPF_FD, program), text(_BPF_NAME, label), number(_BPF_FLAGS, _DIRECT_ACTION))
    body = _TRAFFIC.pack(0, index, 1, parent, _FIRST_OF_ALL_PROTOCOLS) + text(_KIND, "bpf") + options
    return Request(_NEW_FILTER, body, ACK | CREATE | REPLACE)


def read_label(sock: NetlinkSocket, index: int, parent: int) -> str | None:
    """The name of the BPF filter on the link ``index``, at `INGRESS` or `EGRESS`; None where there is none.

    Raises ``OSError``, ``TimeoutError`` among them.
    """
    label = None
    for _, found in _dump(sock, _GET_FILTER, index, parent):
        name = attributes(found.get(_OPTIONS, b"")).get(_BPF_NAME)
        label = name.rstrip(b"\0").decode("utf-8", "replace") if name else label
    return label


def count_drops(sock: NetlinkSocket, indices: Collection[int]) -> int:
    """How many packets the filters on the links ``indices`` have dropped; the arguments are those of `read_label`."""
    total = 0
    for at, found in _dump(sock, _GET_QDISC, 0, 0):
        if at in indices and found.get(_KIND) == b"clsact\0":
            queue = attributes(found.get(_STATISTICS, b"")).get(_QUEUE)
            total += _QUEUE_STATISTICS.unpack_from(queue)[2] if queue else 0
    return total


def _dump(sock: NetlinkSocket, kind: int, index: int, parent: int) -> Iterator[tuple[int, dict[int, bytes]]]:
    """The link and the attributes of each answer."""
    for answer in sock.ask(kind, DUMP, _TRAFFIC.pack(0, index, 0, parent, 0), time.monotonic() + SYSTEM_DEADLINE):
        _, link, *_ = _TRAFFIC.unpack_from(answer)
        yield link, attributes(answer[_TRAFFIC.size :])
