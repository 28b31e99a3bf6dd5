"""The endpoint of this host where nobody gave it: the address by which it reaches the other hosts, and the port.

The system is asked which source address it would use for a packet to each of them; no packet is sent. So the endpoint
follows the host's address when that changes. Behind NAT it is the address that the host has there.
"""

from __future__ import annotations

import ipaddress
import socket
from collections import Counter
from collections.abc import Iterable

from support.endpoints import Endpoint
from zones.hosts import Host

ENOUGH = 64  # other hosts that are looked at: more change nothing, and this runs with every renewal of the lease
ANYWHERE = (  # Where no other host is known yet: addresses that nobody has (RFC 5737, RFC 3849), so the default route.
    Endpoint("198.51.100.1", 9),
    Endpoint("2001:db8:ffff::1", 9),
)
_IPV6_ADDR_PREFERENCES, _PREFER_PUBLIC = 72, 2  # RFC 5014: an address that does not change every day


def find_endpoint(port: int, others: Iterable[Host], current: str = "", control_planes: Iterable[Endpoint] = ()) -> str:
    """Where the other hosts can reach ``port`` of this one; empty if this host has a route to none of them.

    It is at the source address of packets to most of ``others``; where none is known, to the ``control_planes``.
    ``current`` stays as long as it is one of them, or where no other host is known as long as this host has its
    address; else one of its family takes its place, if there is one.
    """
    known = sorted(others, key=lambda host: host.id)
    # An address behind NAT means something else elsewhere; it is better than nothing.
    known = ([host for host in known if not host.behind_nat] or known)[:ENOUGH]
    counted = Counter(filter(None, (source_of(Endpoint.parse(host.endpoint)) for host in known)))
    if not counted and current and has_address(address := Endpoint.parse(current).host):
        return str(Endpoint(address, port))  # that the last shared environment has gone is no reason to move
    for destinations in (control_planes, ANYWHERE):
        if not counted:
            counted = Counter(filter(None, map(source_of, destinations)))
    if not counted:
        return ""
    found = {str(Endpoint(source, port)): count for source, count in counted.items()}
    return max(found, key=lambda one: (one == current, ("[" in one) == ("[" in current), found[one]))


def has_address(address: str) -> bool:
    """Whether this host has ``address``, of IPv4 or IPv6."""
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.bind((address, 0))
        except OSError:
            return False
    return True


def source_of(destination: Endpoint) -> str | None:
    """The address from which this host sends to ``destination``; None if it has no route, or only one to itself."""
    family = socket.AF_INET6 if ":" in destination.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        try:
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_ADDR_PREFERENCES, _PREFER_PUBLIC)
            sock.connect((destination.host, destination.port))  # which only looks up the route
            address = ipaddress.ip_address(sock.getsockname()[0])
        except OSError:
            return None
    is_own = str(address) == destination.host
    return None if is_own or address.is_loopback or address.is_link_local else str(address)
