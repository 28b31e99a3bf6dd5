"""The filters of the agent's links, as BPF programs: what may come in and go out there, whatever nftables says. Pure.

    from a workload    its own address to its own environment's, and DNS to this host's resolver; nothing but IPv6
    to a workload      what came in by a filtered link, from its own environment; of this host, DNS and ICMPv6 errors
    from the tunnel    from a member to a member of the same environment, and DNS to this host's resolver
    to the tunnel      what came in by a filtered link, from and to one environment; of this host, DNS and ICMPv6 errors

It is the second barrier between environments (docs/decisions/0024): it stays where it is when somebody flushes the
firewall, and when no agent runs. An environment is told by the first six octets of an address, its /48. So none of the
programs holds a table, and what one costs does not grow with the number of environments.

What is dropped is counted, but for multicast of a workload's link to itself (``ff02::/16``): that is how kernels speak
to routers and neighbours, and nobody's attempt to get anywhere.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from ipaddress import IPv6Network

from agent.plan.bpf import CONTEXT, FRAME, Program
from zones.addresses import Address, Platform, resolver_address

ETHERNET, NO_HEADER = 14, 0  # octets before the IPv6 header: on a veth, and on a WireGuard device

_PASS, _DROP = 0, 2  # TC_ACT_OK, TC_ACT_SHOT
_IGNORE = 4  # TC_ACT_STOLEN: goes no further, like _DROP, and is not counted
_MARK = 0x1712  # in a packet's tc_index, where nothing else of a host writes: it came in by a filtered link
_LOAD_BYTES = 26  # bpf_skb_load_bytes
# Offsets in the context, struct __sk_buff of <linux/bpf.h>.
_PROTOCOL, _VLAN, _CAME_IN_BY, _TC_INDEX, _TC_CLASSID = 16, 20, 36, 44, 72
_SKB = 6  # the register that keeps the context over calls
_HEADER = 40  # octets of an IPv6 header, which lies at the end of the stack
_NEXT, _SOURCE, _DESTINATION = 6 - _HEADER, 8 - _HEADER, 24 - _HEADER
_PORTS = _HEADER + 8  # what follows the header is put before it on the stack
_NETWORK = 6  # octets of an environment's /48
_IPV6, _DNS = b"\x86\xdd", (53).to_bytes(2, "big")
_TCP, _UDP, _ICMPV6 = 6, 17, 58
_RESOLVER = resolver_address(IPv6Network("::/48"))[_NETWORK:]  # the end of each resolver address
_LINK_LOCAL = b"\xff\x02"  # of multicast (RFC 4291 §2.7)
_LAST_ERROR = 4  # ICMPv6 types 1 to 4 are the errors that stop a packet (RFC 4443 §3)


@dataclass(frozen=True, slots=True)
class LinkFilter:
    """The two programs of a link."""

    incoming: bytes
    """Looks at what this host receives on the link."""
    outgoing: bytes
    """Looks at what this host sends on the link."""

    @property
    def label(self) -> str:
        """What tells these programs from those of another link or another release."""
        return f"interlock-{hashlib.blake2b(self.incoming + self.outgoing, digest_size=8).hexdigest()}"


def workload_filter(address: Address, platform: Platform) -> LinkFilter:
    """The filter of the link of the workload at ``address``."""
    network = address[:_NETWORK]
    into = _begin(ETHERNET)
    _jump_unless(into, "drop", _SOURCE, address)
    _jump_unless_network(into, "elsewhere", _DESTINATION, network)
    _jump_if_resolver(into, "resolver", _DESTINATION)
    into.go("pass")
    into.label("elsewhere")
    _jump_unless(into, "drop", _DESTINATION, platform.resolver)
    into.label("resolver")
    _drop_unless_dns(into, ETHERNET, port_at=2)
    out = _begin(ETHERNET)
    _jump_unless(out, "drop", _DESTINATION, address)
    _jump_if_from_host(out)
    _jump_unless_network(out, "drop", _SOURCE, network)
    out.go("pass")
    _pass_from_host(out, ETHERNET)
    return LinkFilter(_end(into, is_workload=True), _end(out, is_workload=True))


def tunnel_filter(platform: Platform, header: int = NO_HEADER) -> LinkFilter:
    """The filter of the WireGuard device, or of another link with ``header`` octets before the IPv6 header."""
    into = _begin(header)
    for at, octet in enumerate(platform.prefix.network_address.packed[: platform.prefix.prefixlen // 8]):
        into.load(0, FRAME, _SOURCE + at, 1)
        into.jump("drop", 0, "!=", octet)
    _jump_if_network(into, "drop", _SOURCE, platform.resolver[:_NETWORK])
    _jump_unless_one_network(into, "elsewhere")
    _jump_if_resolver(into, "resolver", _DESTINATION)
    into.go("pass")
    into.label("elsewhere")
    _jump_unless(into, "drop", _DESTINATION, platform.resolver)
    into.label("resolver")
    _drop_unless_dns(into, header, port_at=2)
    out = _begin(header)
    _jump_if_from_host(out)
    _jump_unless_one_network(out, "drop")
    out.go("pass")
    _pass_from_host(out, header)
    return LinkFilter(_end(into), _end(out))


def _begin(header: int) -> Program:
    """A program that has the IPv6 header on the stack, and has dropped everything that is not plain IPv6."""
    program = Program()
    program.move_register(_SKB, CONTEXT)
    program.load(0, _SKB, _PROTOCOL, 4)
    program.jump("drop without a header", 0, "!=", _IPV6)
    program.load(0, _SKB, _VLAN, 4)
    program.jump("drop without a header", 0, "!=", 0)
    _load_octets(program, header, -_HEADER, _HEADER, "drop without a header")
    return program


def _end(program: Program, is_workload: bool = False) -> bytes:
    program.label("pass")
    program.store(_SKB, _TC_CLASSID, _MARK)  # which becomes the packet's tc_index, where it came in
    program.exit(_PASS)
    program.label("drop")
    if is_workload:
        program.load(0, FRAME, _DESTINATION, 2)
        program.jump("drop without a header", 0, "!=", _LINK_LOCAL)
        program.exit(_IGNORE)
    program.label("drop without a header")
    program.exit(_DROP)
    return program.packed()


def _load_octets(program: Program, offset: int, to: int, count: int, otherwise: str = "drop") -> None:
    """Puts octets of the packet onto the stack; a packet that has not so many goes to ``otherwise``."""
    program.move_register(1, _SKB)
    program.move(2, offset)
    program.move_register(3, FRAME, add=to)
    program.move(4, count)
    program.call(_LOAD_BYTES)
    program.jump(otherwise, 0, "!=", 0)


def _jump_unless(program: Program, target: str, at: int, address: Address) -> None:
    """Goes to ``target`` unless ``address`` lies at ``at``."""
    for part in (0, 8):
        program.load(0, FRAME, at + part, 8)
        program.constant(1, address[part : part + 8])
        program.jump_register(target, 0, "!=", 1)


def _jump_unless_network(program: Program, target: str, at: int, network: bytes) -> None:
    """Goes to ``target`` unless the address at ``at`` begins with ``network``, of six octets."""
    for part, size in ((0, 4), (4, 2)):
        program.load(0, FRAME, at + part, size)
        program.jump(target, 0, "!=", network[part : part + size])


def _jump_if_network(program: Program, target: str, at: int, network: bytes) -> None:
    """Goes to ``target`` if the address at ``at`` begins with ``network``, of six octets."""
    _jump_unless_network(program, "other network", at, network)
    program.go(target)
    program.label("other network")


def _jump_unless_one_network(program: Program, target: str) -> None:
    """Goes to ``target`` unless source and destination begin with the same six octets."""
    for part, size in ((0, 4), (4, 2)):
        program.load(0, FRAME, _SOURCE + part, size)
        program.load(1, FRAME, _DESTINATION + part, size)
        program.jump_register(target, 0, "!=", 1)


def _jump_if_resolver(program: Program, target: str, at: int) -> None:
    """Goes to ``target`` if the address at ``at`` is the resolver address of its network, which is this host's."""
    program.load(0, FRAME, at + _NETWORK, 2)
    program.jump("member", 0, "!=", _RESOLVER[:2])
    program.load(0, FRAME, at + _NETWORK + 2, 8)
    program.constant(1, _RESOLVER[2:])
    program.jump_register("member", 0, "!=", 1)
    program.go(target)
    program.label("member")


def _drop_unless_dns(program: Program, header: int, port_at: int) -> None:
    """Goes on only for TCP and UDP whose port at ``port_at`` is that of DNS; a fragment has another next header."""
    program.load(0, FRAME, _NEXT, 1)
    program.jump("ports", 0, "==", _UDP)
    program.jump("drop", 0, "!=", _TCP)
    program.label("ports")
    _load_octets(program, header + _HEADER, -_PORTS, 4)
    program.load(0, FRAME, port_at - _PORTS, 2)
    program.jump("drop", 0, "!=", _DNS)


def _jump_if_from_host(program: Program) -> None:
    """Goes to "host" for what this host itself sends; drops what came in by a link without a filter."""
    program.load(0, _SKB, _CAME_IN_BY, 4)
    program.jump("host", 0, "==", 0)
    program.load(0, _SKB, _TC_INDEX, 4)
    program.jump("drop", 0, "!=", _MARK)


def _pass_from_host(program: Program, header: int) -> None:
    """At "host": passes ICMPv6 errors, and what the resolver sends from its address."""
    program.label("host")
    program.load(0, FRAME, _NEXT, 1)
    program.jump("answer", 0, "!=", _ICMPV6)
    _load_octets(program, header + _HEADER, -_PORTS, 4)
    program.load(0, FRAME, -_PORTS, 1)
    program.jump("drop", 0, ">", _LAST_ERROR)
    program.go("pass")
    program.label("answer")
    _jump_if_resolver(program, "resolver", _SOURCE)
    program.go("drop")
    program.label("resolver")
    _drop_unless_dns(program, header, port_at=0)
