"""nftables' netlink messages, as far as a running agent needs them: members of sets, counters, the generation. Pure.

The members of a set change with nearly every attach, and nft(8), a process that first reads all tables, takes ten
milliseconds for what the kernel does in a tenth of one. The structs and numbers are those of
<linux/netfilter/nfnetlink.h> and <linux/netfilter/nf_tables.h>; numbers are in network order.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator
from ipaddress import IPv6Network
from struct import Struct

from agent.plan.firewall import RESOLVERS, Element, SetChange
from agent.system.netlink_socket import ACK, CREATE, DUMP, attribute, attributes, each_attribute, nested, text

PROTOCOL = 12  # NETLINK_NETFILTER
_GET_RULES, _GET_GENERATION = 0xA07, 0xA10  # NFT_MSG_GETRULE and NFT_MSG_GETGEN of NFNL_SUBSYS_NFTABLES

_SUBSYSTEM, _ADD_MEMBERS, _DELETE_MEMBERS = 10, 0xA0C, 0xA0E  # NFT_MSG_NEWSETELEM, NFT_MSG_DELSETELEM
_BEGIN, _END = 0x10, 0x11  # NFNL_MSG_BATCH_BEGIN, NFNL_MSG_BATCH_END
_HEADER = Struct("!BBH")  # struct nfgenmsg: family, version, resource
_INET = 1  # NFPROTO_INET
_TABLE, _SET, _MEMBERS = 1, 2, 3  # NFTA_SET_ELEM_LIST_…
_MEMBER, _KEY, _LAST_KEY, _VALUE = 1, 1, 10, 1  # NFTA_LIST_ELEM, NFTA_SET_ELEM_KEY, …_KEY_END, NFTA_DATA_VALUE
_GENERATION = 1  # NFTA_GEN_ID
_CHAIN, _EXPRESSIONS, _NAME, _DATA, _PACKETS = 2, 4, 1, 2, 2  # NFTA_RULE_…, NFTA_EXPR_…, NFTA_COUNTER_PACKETS
_INTERFACE_OCTETS = 16  # IFNAMSIZ: what an ifname is compared in
_AT_ONCE = 500  # members in one message: an attribute has at most 65,535 octets, and a member some 90

_INTERVALS = frozenset({RESOLVERS})
"""The sets whose members are ranges, of which a prefix is one."""


def transaction(table: str, changes: Iterable[SetChange]) -> list[tuple[int, int, bytes]]:
    """Kind, flags and body of the messages that make ``changes`` to sets of ``table``, all or none; empty for none."""
    work = [
        (kind, flags | ACK, _header() + text(_TABLE, table) + text(_SET, change.name) + nested(_MEMBERS, *some))
        for change in changes
        for kind, flags, members in ((_DELETE_MEMBERS, 0, change.remove), (_ADD_MEMBERS, CREATE, change.add))
        for some in _some([_member(change.name, one) for one in members])
    ]
    bound = _HEADER.pack(socket.AF_UNSPEC, 0, _SUBSYSTEM)
    return [(_BEGIN, 0, bound), *work, (_END, 0, bound)] if work else []


def ask_generation() -> tuple[int, int, bytes]:
    """Kind, flags and body of the request for the generation."""
    return _GET_GENERATION, 0, _header()


def ask_rules(table: str) -> tuple[int, int, bytes]:
    """Kind, flags and body of the request for the rules of ``table``."""
    return _GET_RULES, DUMP, _header() + text(_TABLE, table)


def read_generation(answer: bytes) -> int:
    """The number of the ruleset in ``answer`` to `ask_generation`; each transaction in the namespace counts it on."""
    return int.from_bytes(attributes(answer[_HEADER.size :])[_GENERATION], "big")


def read_packets(answers: Iterable[bytes]) -> dict[str, int]:
    """How many packets the rules with counters have counted, by chain, in ``answers`` to `ask_rules`."""
    counted: dict[str, int] = {}
    for answer in answers:
        rule = attributes(answer[_HEADER.size :])
        chain = rule[_CHAIN].rstrip(b"\0").decode()
        for _, octets in each_attribute(rule.get(_EXPRESSIONS, b"")):
            expression = attributes(octets)
            if expression.get(_NAME) == b"counter\0":
                packets = int.from_bytes(attributes(expression[_DATA])[_PACKETS], "big")
                counted[chain] = counted.get(chain, 0) + packets
    return counted


def _header() -> bytes:
    return _HEADER.pack(_INET, 0, 0)


def _some(members: list[bytes]) -> Iterator[list[bytes]]:
    for at in range(0, len(members), _AT_ONCE):
        yield members[at : at + _AT_ONCE]


def _member(name: str, element: Element) -> bytes:
    bounds = [_bounds(part) for part in element]
    first = nested(_KEY, attribute(_VALUE, b"".join(one for one, _ in bounds)))
    last = nested(_LAST_KEY, attribute(_VALUE, b"".join(other for _, other in bounds))) if name in _INTERVALS else b""
    return nested(_MEMBER, first, last)


def _bounds(part: str) -> tuple[bytes, bytes]:
    """The first and the last value that ``part`` of a member stands for: a prefix, an address, or a link's name."""
    if ":" not in part:
        name = part.encode().ljust(_INTERFACE_OCTETS, b"\0")
        return name, name
    network = IPv6Network(part)
    return network.network_address.packed, network.broadcast_address.packed
