"""Names that are not forwarded: special-use names and private reverse zones. Pure.

Asking an upstream for them is useless at best; at worst it shows third parties what runs here (RFC 6303 §1, RFC 6761).
An operator whose own servers know some of them gives those a route of their own: ``routed`` has its suffixes. A route
for a suffix above them, or for all names, is no such route.
"""

from __future__ import annotations

from resolver.wire.messages import CLASS_IN, Query, Rcode, Reply
from zones.addresses import Address
from zones.names import Name
from zones.records import Address4, Rdata, RRset, RRType, Soa

TTL = 300  # seconds; these answers never change, but a client that roams should not cache them all day

LOCALHOST = Name.parse("localhost")
_LOCALHOST_DATA: dict[int, Rdata] = {
    RRType.A: Address4(bytes([127, 0, 0, 1])),
    RRType.AAAA: Address(bytes(15) + b"\1"),
}
_LOCALHOST_REVERSE = (
    Name.parse("1.0.0.127.in-addr.arpa"),
    Name.parse("1." + "0." * 31 + "ip6.arpa"),
)


def _zones() -> frozenset[Name]:
    names = ["localhost", "internal", "local", "onion", "alt", "test", "invalid"]  # RFC 6761 and after
    names += ["home.arpa", "service.arpa", "resolver.arpa"]  # RFC 8375, 9665, 9462
    names += [f"{number}.in-addr.arpa" for number in (0, 10, 127)]
    names += [f"{number}.172.in-addr.arpa" for number in range(16, 32)]
    names += [f"{number}.100.in-addr.arpa" for number in range(64, 128)]  # RFC 7793
    names += [
        f"{quad}.in-addr.arpa"
        for quad in ("168.192", "254.169", "2.0.192", "100.51.198", "113.0.203", "255.255.255.255")
    ]
    names += ["0." * 32 + "ip6.arpa", "1." + "0." * 31 + "ip6.arpa", "d.f.ip6.arpa", "8.b.d.0.1.0.0.2.ip6.arpa"]
    names += [f"{digit}.e.f.ip6.arpa" for digit in "89ab"]
    return frozenset(Name.parse(name) for name in names)


ZONES = _zones()
"""The apexes of these names: RFC 6303 §4, RFC 6761 §6 and their successors."""


NO_ROUTES: frozenset[Name] = frozenset()

RESOLVER_INFO = Name.parse("resolver.arpa")
"""Where clients ask for encrypted transports to their resolver (RFC 9462). An upstream's answer would lead them to the
upstream, past this resolver."""

UNROUTABLE = frozenset(
    {
        LOCALHOST,  # RFC 6761 §6.3: this machine, whoever is asked
        RESOLVER_INFO,
        *map(Name.parse, ("onion", "alt", "invalid")),  # RFC 7686, 9476, 6761: not in the DNS at all
        *map(Name.parse, ("0.in-addr.arpa", "127.in-addr.arpa", "0." * 32 + "ip6.arpa", "1." + "0." * 31 + "ip6.arpa")),
    }
)
"""Those of `ZONES` that nobody's servers can know, so that not even a route of their own makes sense."""


def answer_special(query: Query, qname: Name, routed: frozenset[Name] = NO_ROUTES) -> Reply | None:
    """The answer for ``qname``, if it is one of these names; None if it may be forwarded."""
    zone = special_zone(qname, routed)
    if zone is None or query.qclass != CLASS_IN:
        return None
    soa = RRset(zone, RRType.SOA, TTL, (_soa(zone),))
    data = _data(zone, qname, query.qtype, soa)
    if data:
        return Reply(Rcode.NOERROR, (data,), authoritative=True)
    # RFC 9462 §6.4: NODATA below resolver.arpa says that this resolver has no other transports.
    exists = zone in (LOCALHOST, RESOLVER_INFO) or qname == zone or qname in _LOCALHOST_REVERSE
    return Reply(Rcode.NOERROR if exists else Rcode.NXDOMAIN, (), (soa,), authoritative=True)


def special_zone(qname: Name, routed: frozenset[Name] = NO_ROUTES) -> Name | None:
    """The one of `ZONES` that ``qname`` lies in; None if it may be forwarded."""
    name = qname
    while len(name) > 1:
        if name in routed:
            return None
        if name in ZONES:
            return name
        name = name.parent
    return None


def _data(zone: Name, qname: Name, qtype: int, soa: RRset) -> RRset | None:
    if zone == LOCALHOST and qtype in _LOCALHOST_DATA:
        return RRset(qname, qtype, TTL, (_LOCALHOST_DATA[qtype],))  # RFC 6761 §6.3, also below it
    if qname in _LOCALHOST_REVERSE and qtype == RRType.PTR:
        return RRset(qname, RRType.PTR, TTL, (LOCALHOST,))
    if qname == zone and qtype in (RRType.SOA, RRType.ANY):
        return soa
    if qname == zone and qtype == RRType.NS:
        return RRset(zone, RRType.NS, TTL, (LOCALHOST,))
    return None


def _soa(zone: Name) -> Soa:
    return Soa(LOCALHOST, Name.parse("nobody.invalid"), 1, 3600, 1200, 604_800, TTL)  # RFC 6303 §3
