"""What upstreams do not decide: names that are answered here, and the platform's addresses. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv6Address

from resolver.forward.upstream import Routes
from resolver.special import special_zone
from zones.addresses import Address, Platform
from zones.names import Name
from zones.records import Opaque, Rdata, RRset, RRType
from zones.zone import apex_of

SVCB, HTTPS = 64, 65
_IPV6_HINT = 6  # RFC 9460 §14.3.2: addresses beside a name, which clients may use without asking for it


@dataclass(frozen=True, slots=True)
class Boundary:
    """The line between what this resolver answers itself and what upstreams on ``routes`` may answer."""

    platform: Platform
    """The platform's names and addresses."""
    routes: Routes
    """Which upstreams are asked for which names."""

    def is_answered_here(self, name: Name) -> bool:
        """Whether no upstream is ever asked for ``name``."""
        return apex_of(self.platform, name) is not None or special_zone(name, self.routes.routed) is not None

    def ends_at(self, name: Name, qname: Name) -> bool:
        """Whether an upstream that was asked for ``qname`` may say nothing of ``name``, to which an alias leads."""
        if self.is_answered_here(name):
            return True
        # A special name that has a route of its own: those upstreams know it, others can only make it up.
        return special_zone(name) is not None and self.routes.upstreams(name) != self.routes.upstreams(qname)

    def without_platform(self, rrset: RRset) -> RRset | None:
        """``rrset`` without the platform's addresses, which only this resolver gives; None if nothing is left."""
        kept = tuple(rdata for rdata in rrset.rdatas if not self._has_platform(rrset.rtype, rdata))
        if len(kept) == len(rrset.rdatas):
            return rrset
        return RRset(rrset.name, rrset.rtype, rrset.ttl, kept) if kept else None

    def _has_platform(self, rtype: int, rdata: Rdata) -> bool:
        match rdata:
            case Address():
                return self._is_platform(rdata)
            case Opaque(octets) if rtype == RRType.AAAA:
                return self._is_platform(octets)
            case Opaque(octets) if rtype in (SVCB, HTTPS):
                return any(self._is_platform(address) for address in _hints(octets))
            case _:
                return False

    def _is_platform(self, address: bytes) -> bool:
        return len(address) == 16 and IPv6Address(address) in self.platform.prefix


def _hints(octets: bytes) -> Iterator[bytes]:
    """The IPv6 addresses in the data of an SVCB record (RFC 9460 §2.2); what cannot be read has none."""
    at = 2  # behind the priority stands a name
    while at < len(octets) and octets[at]:
        at += 1 + octets[at]
    at += 1
    while at + 4 <= len(octets):
        key, length = int.from_bytes(octets[at : at + 2], "big"), int.from_bytes(octets[at + 2 : at + 4], "big")
        value = octets[at + 4 : at + 4 + length]
        if key == _IPV6_HINT:
            yield from (value[part : part + 16] for part in range(0, len(value) - 15, 16))
        at += 4 + length
