"""The messages of routing netlink as octets: links, addresses, routes and neighbours (rtnetlink(7)). Pure.

A message is a struct of <linux/rtnetlink.h>, <linux/if_addr.h> or <linux/neighbour.h>, and attributes. `Request` is one
to be sent; what the kernel answers is read by the functions ``read_…``.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from struct import Struct

from agent.system.netlink_socket import (
    ACK,
    CREATE,
    DUMP,
    EXCLUSIVE,
    REPLACE,
    attribute,
    attributes,
    nested,
    number,
    text,
)
from zones.addresses import Address

PROTOCOL = 0  # NETLINK_ROUTE
OURS = 105  # the routing protocol ("i") that marks the agent's routes; <linux/rtnetlink.h> gives it to nobody
OUR_GROUP = 5906  # that of the agent's links, by which its firewall knows them (ip-link(8)); others are in group 0
UP, NO_ARP = 0x1, 0x80  # IFF_UP, IFF_NOARP

_NEW_LINK, _DELETE_LINK, _GET_LINK = 16, 17, 18  # RTM_NEWLINK and so on
_NEW_ADDRESS, _DELETE_ADDRESS, _GET_ADDRESS = 20, 21, 22
_NEW_ROUTE, _DELETE_ROUTE, _GET_ROUTE = 24, 25, 26
_NEW_NEIGHBOUR, _GET_NEIGHBOUR = 28, 30
_GET_NAMESPACE = 90

_LINK = Struct("=BxHiII")  # struct ifinfomsg: family, type, index, flags, mask of changed flags
_ADDRESS = Struct("=BBBBI")  # struct ifaddrmsg: family, length of the prefix, flags, scope, index
_ROUTE = Struct(
    "=BBBBBBBBI"
)  # struct rtmsg: family, lengths of both prefixes, tos, table, protocol, scope, type, flags
_NEIGHBOUR = Struct("=BxxxiHBB")  # struct ndmsg: family, index, state, flags, type
_GENERAL = Struct("=Bxxx")  # struct rtgenmsg
_NUMBER = Struct("=i")

# IFLA_…, IFA_…, RTA_…, NDA_…, NETNSA_…: the types of attributes
_MAC, _NAME, _MTU, _PEER_INDEX, _INFO, _ALIAS, _OF_FAMILIES, _GROUP, _NAMESPACE, _FILTERED, _PEER_NAMESPACE = (
    1, 3, 4, 5, 18, 20, 26, 27, 28, 29, 37,
)  # fmt: skip
_INFO_KIND, _INFO_DATA, _VETH_PEER = 1, 2, 1
_ADDRESS_GENERATION, _NO_ADDRESS_GENERATION = 8, 1  # IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE
_SKIP_STATISTICS = 1 << 3  # RTEXT_FILTER_SKIP_STATS
_WHOLE_ADDRESS, _LOCAL_ADDRESS = 1, 2
_TARGET, _FROM, _IN, _OUT, _GATEWAY, _SOURCE = 1, 2, 3, 4, 5, 7
_NEIGHBOUR_ADDRESS, _NEIGHBOUR_MAC = 1, 2
_NAMESPACE_NUMBER, _NAMESPACE_DESCRIPTOR = 1, 3

_MAIN_TABLE, _UNICAST = 254, 1
_PERMANENT = 0x80  # NUD_PERMANENT
_NO_DAD = 0x02  # IFA_F_NODAD: nobody else has the address, so it is usable without duplicate address detection
_V6 = socket.AF_INET6
_HOST_BITS = 128


@dataclass(frozen=True, slots=True)
class Request:
    """A message to be sent."""

    kind: int
    """Its type."""
    body: bytes
    """What follows the header."""
    flags: int = ACK
    """The flags of the header."""


@dataclass(frozen=True, slots=True)
class Link:
    """A link, as the kernel describes it."""

    index: int
    """Its index."""
    flags: int
    """`UP`, `NO_ARP` and others."""
    name: str
    """Its name."""
    mac: str
    """Its MAC address; empty where it has none."""
    mtu: int
    """Its MTU in octets."""
    alias: str
    """What somebody has written on it; empty for nothing."""
    group: int
    """The group that it is in."""
    kind: str
    """What it is: ``wireguard``, ``tun``, ``veth``; empty for hardware."""
    peer_index: int | None
    """Of a veth, the index of the other end; None for no veth."""
    peer_namespace: int | None
    """The number by which this namespace knows that of the other end; None where that is this one."""


# Links


def add_veth(name: str, mac: str, peer: str, peer_mac: str, namespace: int, mtu: int) -> Request:
    """Adds a veth pair, ``name`` here and ``peer`` in ``namespace``, a descriptor."""
    other = _link(0) + text(_NAME, peer) + _mac(peer_mac) + number(_MTU, mtu) + number(_NAMESPACE, namespace)
    info = nested(_INFO, text(_INFO_KIND, "veth"), nested(_INFO_DATA, attribute(_VETH_PEER, other)))
    body = _link(0) + text(_NAME, name) + _mac(mac) + number(_MTU, mtu) + info
    return Request(_NEW_LINK, body, ACK | CREATE | EXCLUSIVE)


def add_wireguard(name: str, mtu: int) -> Request:
    """Adds a link of the kernel's WireGuard."""
    info = nested(_INFO, text(_INFO_KIND, "wireguard"))
    return Request(_NEW_LINK, _link(0) + text(_NAME, name) + number(_MTU, mtu) + info, ACK | CREATE | EXCLUSIVE)


def set_owner(index: int, alias: str, mac: str) -> Request:
    """Writes ``alias`` on a link, gives it a MAC address, puts it in `OUR_GROUP`, and switches ARP off on it."""
    more = text(_ALIAS, alias) + _mac(mac) + number(_GROUP, OUR_GROUP)
    return Request(_NEW_LINK, _link(index, NO_ARP, NO_ARP) + more)


def set_group(index: int) -> Request:
    """Puts a link in `OUR_GROUP`."""
    return Request(_NEW_LINK, _link(index) + number(_GROUP, OUR_GROUP))


def set_mac(index: int, mac: str) -> Request:
    """Gives a link another MAC address."""
    return Request(_NEW_LINK, _link(index) + _mac(mac))


def generate_no_address(index: int) -> Request:
    """Has the kernel make up no link-local address for a link."""
    mode = attribute(_ADDRESS_GENERATION, bytes([_NO_ADDRESS_GENERATION]))
    return Request(_NEW_LINK, _link(index) + nested(_OF_FAMILIES, nested(_V6, mode)))


def set_up(index: int, mtu: int) -> Request:
    """Brings a link up with ``mtu``."""
    return Request(_NEW_LINK, _link(index, UP, UP) + number(_MTU, mtu))


def delete_link(index: int) -> Request:
    """Removes a link with its addresses and routes."""
    return Request(_DELETE_LINK, _link(index))


def get_link(index: int) -> Request:
    """Asks for one link."""
    return Request(_GET_LINK, _link(index) + number(_FILTERED, _SKIP_STATISTICS), 0)


def list_links() -> Request:
    """Asks for all links."""
    return Request(_GET_LINK, _link(0) + number(_FILTERED, _SKIP_STATISTICS), DUMP)


def read_link(answer: bytes) -> Link:
    """The link in ``answer``."""
    _, _, index, flags, _ = _LINK.unpack_from(answer)
    found = attributes(answer[_LINK.size :])
    info = attributes(found.get(_INFO, b""))
    return Link(
        index=index,
        flags=flags,
        name=_text(found.get(_NAME)),
        mac=found.get(_MAC, b"").hex(":"),
        mtu=_number(found.get(_MTU)) or 0,
        alias=_text(found.get(_ALIAS)),
        group=_number(found.get(_GROUP)) or 0,
        kind=_text(info.get(_INFO_KIND)),
        peer_index=_number(found.get(_PEER_INDEX)) or None,
        peer_namespace=_number(found.get(_PEER_NAMESPACE)),
    )


# Addresses


def add_address(index: int, address: Address) -> Request:
    """Adds an address to a link; it is usable at once."""
    return Request(_NEW_ADDRESS, _address(index, address, _NO_DAD), ACK | CREATE | EXCLUSIVE)


def delete_address(index: int, address: Address, bits: int) -> Request:
    """Removes an address, with a prefix of ``bits``, from a link."""
    return Request(_DELETE_ADDRESS, _address(index, address, bits=bits))


def list_addresses(family: int = _V6) -> Request:
    """Asks for all addresses of ``family``."""
    return Request(_GET_ADDRESS, _ADDRESS.pack(family, 0, 0, 0, 0), DUMP)


def read_address(answer: bytes) -> tuple[int, IPv4Address | IPv6Address, int]:
    """The index of the link, the address itself, and the length of its prefix."""
    family, bits, _, _, index = _ADDRESS.unpack_from(answer)
    found = attributes(answer[_ADDRESS.size :])
    octets = found.get(_LOCAL_ADDRESS) or found[_WHOLE_ADDRESS]
    return index, IPv6Address(octets) if family == _V6 else IPv4Address(octets), bits


# Routes


def set_route(target: IPv6Network, index: int, gateway: Address | None, source: Address | None) -> Request:
    """Routes ``target`` to a link, instead of wherever it was routed before."""
    more = attribute(_GATEWAY, bytes(gateway)) if gateway else b""
    more += attribute(_SOURCE, bytes(source)) if source else b""
    return Request(_NEW_ROUTE, _route(target, index, OURS, _UNICAST) + more, ACK | CREATE | REPLACE)


def delete_route(target: IPv6Network, index: int) -> Request:
    """Removes the route of ``target`` to a link."""
    return Request(_DELETE_ROUTE, _route(target, index))


def list_routes() -> Request:
    """Asks for the agent's routes; an old kernel answers with those of others, too."""
    return Request(_GET_ROUTE, _ROUTE.pack(_V6, 0, 0, 0, _MAIN_TABLE, OURS, 0, 0, 0), DUMP)


def read_route(answer: bytes) -> tuple[str, int] | None:
    """The target and the index of the link of a route; None where it is not the agent's."""
    _, bits, _, _, table, protocol, *_ = _ROUTE.unpack_from(answer)
    found = attributes(answer[_ROUTE.size :])
    out = _number(found.get(_OUT))
    if table != _MAIN_TABLE or protocol != OURS or out is None:
        return None
    return f"{IPv6Address(found.get(_TARGET) or bytes(16))}/{bits}", out


def get_route(target: Address, source: Address, incoming: int) -> Request:
    """Asks where a packet from ``source`` to ``target`` goes that comes in by the link ``incoming``."""
    header = _ROUTE.pack(_V6, _HOST_BITS, _HOST_BITS, 0, 0, 0, 0, 0, 0)
    body = attribute(_TARGET, bytes(target)) + attribute(_FROM, bytes(source)) + number(_IN, incoming)
    return Request(_GET_ROUTE, header + body, 0)


def read_way(answer: bytes) -> int | None:
    """The index of the link by which such a packet leaves; None where by none."""
    return _number(attributes(answer[_ROUTE.size :]).get(_OUT))


# Neighbours


def set_neighbour(address: Address, mac: str, index: int) -> Request:
    """Makes ``mac`` the permanent neighbour entry of ``address`` on a link."""
    body = _NEIGHBOUR.pack(_V6, index, _PERMANENT, 0, 0) + attribute(_NEIGHBOUR_ADDRESS, bytes(address))
    return Request(_NEW_NEIGHBOUR, body + attribute(_NEIGHBOUR_MAC, _octets(mac)), ACK | CREATE | REPLACE)


def list_neighbours() -> Request:
    """Asks for all neighbour entries."""
    return Request(_GET_NEIGHBOUR, _NEIGHBOUR.pack(_V6, 0, 0, 0, 0), DUMP)


def read_neighbour(answer: bytes) -> tuple[tuple[str, int], str] | None:
    """The address of a neighbour entry and the index of its link, and its MAC; None where it is not permanent."""
    _, index, state, _, _ = _NEIGHBOUR.unpack_from(answer)
    found = attributes(answer[_NEIGHBOUR.size :])
    octets, mac = found.get(_NEIGHBOUR_ADDRESS), found.get(_NEIGHBOUR_MAC, b"")
    return ((str(IPv6Address(octets)), index), mac.hex(":")) if state == _PERMANENT and octets else None


# Namespaces


def get_namespace_number(namespace: int) -> Request:
    """Asks for the number by which this namespace knows ``namespace``, a descriptor."""
    return Request(_GET_NAMESPACE, _GENERAL.pack(0) + number(_NAMESPACE_DESCRIPTOR, namespace), 0)


def read_namespace_number(answer: bytes) -> int:
    """That number; -1 for none."""
    found = _number(attributes(answer[_GENERAL.size :]).get(_NAMESPACE_NUMBER))
    return -1 if found is None else found


def _link(index: int, flags: int = 0, changed: int = 0) -> bytes:
    return _LINK.pack(0, 0, index, flags, changed)


def _address(index: int, address: Address, flags: int = 0, bits: int = _HOST_BITS) -> bytes:
    octets = bytes(address)
    header = _ADDRESS.pack(_V6, bits, flags, 0, index)
    return header + attribute(_LOCAL_ADDRESS, octets) + attribute(_WHOLE_ADDRESS, octets)


def _route(target: IPv6Network, index: int, protocol: int = 0, kind: int = 0) -> bytes:
    header = _ROUTE.pack(_V6, target.prefixlen, 0, 0, _MAIN_TABLE, protocol, 0, kind, 0)
    return header + attribute(_TARGET, target.network_address.packed) + number(_OUT, index)


def _mac(mac: str) -> bytes:
    return attribute(_MAC, _octets(mac))


def _octets(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def _text(octets: bytes | None) -> str:
    return (octets or b"").rstrip(b"\0").decode("utf-8", "replace")


def _number(octets: bytes | None) -> int | None:
    return None if octets is None else int(_NUMBER.unpack_from(octets)[0])
