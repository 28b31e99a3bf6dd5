"""Upstream resolvers: their notation, their health, and the routes that say which of them a name is asked of."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv6Address

from resolver.errors import ResolverError
from resolver.special import UNROUTABLE, special_zone
from support.endpoints import Endpoint
from zones.errors import Invalid
from zones.names import ROOT, Name

PORT = 53
TLS_PORT = 853  # RFC 7858 §3.1
FIRST_GUESS = 0.05  # seconds; the round trip that is assumed for a resolver that was never asked
BACK_OFF_FIRST = 0.5  # seconds that a resolver which failed is asked only after all others
BACK_OFF_LAST = 30.0  # seconds; the same after many failures in a row
HEDGE_LEAST = 0.02  # seconds before a second upstream is asked as well, however fast the first one usually is
HEDGE_MOST = 0.25  # seconds; three upstreams can be asked within the forwarder's deadline
HEDGE_ROUND_TRIPS = 3  # an upstream is late after three times its usual round trip
_SMOOTHING = 0.125  # RFC 6298 §2: the share of the newest measurement

_BARE_V6 = re.compile(r"((?:tls://)?)([0-9A-Fa-f]*:[^\]\[#]*:[^\]\[#]*)(#.*)?")
_WRITTEN = re.compile(
    r"(?P<tls>tls://)?(?:\[(?P<bracketed>[^\]]+)\]|(?P<plain>[^\]\[#:]+))(?::(?P<port>[0-9]{1,5}))?(?:#(?P<name>[^#]+))?"
)


class BadUpstream(ResolverError):
    """The notation of an upstream or of a route is wrong; the message says what to write."""


@dataclass(frozen=True, slots=True)
class Upstream:
    """A resolver to ask."""

    host: str
    """Its IP address, in the usual form."""

    port: int

    tls_name: str | None = None
    """The name that its certificate must have, for DNS over TLS (RFC 7858); None for UDP and TCP."""

    @classmethod
    def parse(cls, text: str) -> Upstream:
        """``ADDRESS[:PORT]`` or ``tls://ADDRESS[:PORT][#NAME]``, IPv6 with a port in brackets. Raises `BadUpstream`."""
        bare = _BARE_V6.fullmatch(text)
        written = _WRITTEN.fullmatch(f"{bare[1]}[{bare[2]}]{bare[3] or ''}" if bare else text)
        host = _canonical(written["bracketed"] or written["plain"]) if written else ""
        if not written or not host:
            raise BadUpstream(
                f"{text!r} is not an upstream: write ADDRESS, ADDRESS:PORT or tls://ADDRESS#NAME,"
                " with an IP address, and an IPv6 one in brackets where a port follows"
            )
        if "%" not in host and ":" in host and IPv6Address(host).is_link_local:
            raise BadUpstream(f"{text!r} is an address of one link: name the interface too, as in {host}%eth0")
        if written["name"] and not written["tls"]:
            raise BadUpstream(f"{text!r} names a certificate without tls://")
        port = int(written["port"] or (TLS_PORT if written["tls"] else PORT))
        if not 0 < port < 65536:
            raise BadUpstream(f"{text!r} has port {port}: use 1 to 65535")
        return cls(host, port, (written["name"] or host) if written["tls"] else None)

    @property
    def is_protected(self) -> bool:
        """Whether nobody can change its answers in transit: only then is its AD bit passed on."""
        return self.tls_name is not None or self.host == "::1" or self.host.startswith("127.")

    def __str__(self) -> str:
        endpoint = Endpoint(self.host, self.port)
        return f"tls://{endpoint}#{self.tls_name}" if self.tls_name else str(endpoint)


@dataclass(slots=True)
class Health:
    """How well an upstream answers."""

    round_trip: float = FIRST_GUESS
    """Its usual time to answer, in seconds (smoothed)."""

    answered: int = 0
    """How many questions it has answered."""

    failures: int = 0
    """How many failures it has had since its last answer."""

    rest_until: float = 0.0
    """Until when it is asked only after all others, in seconds of a monotonic clock; 0 while it is well."""

    def succeeded(self, seconds: float) -> None:
        """It answered after ``seconds``."""
        self.round_trip += _SMOOTHING * (seconds - self.round_trip)
        self.answered += 1
        self.failures = 0
        self.rest_until = 0.0

    def failed(self, now: float) -> int:
        """It gave no useful answer: for a while all others are asked first, longer with each failure in a row.

        A failure during that time is not counted: a hundred questions that meet one outage are one failure. Gives the
        number of failures in a row if this one is counted, else 0.
        """
        if now < self.rest_until:
            return 0
        self.failures += 1
        self.rest_until = now + min(BACK_OFF_FIRST * 2 ** min(self.failures - 1, 10), BACK_OFF_LAST)
        return self.failures

    def rank(self, now: float) -> tuple[bool, float]:
        """Upstreams are asked in the order of their ranks, the lowest first."""
        return self.rest_until > now, self.round_trip

    @property
    def hedge_delay(self) -> float:
        """After how many seconds it is late, and another upstream is asked as well."""
        return min(max(self.round_trip * HEDGE_ROUND_TRIPS, HEDGE_LEAST), HEDGE_MOST)


@dataclass(frozen=True, slots=True)
class Route:
    """Which upstreams are asked for the names at and below a suffix."""

    suffix: Name
    """The suffix; the root for all names."""
    upstreams: tuple[Upstream, ...]
    """The upstreams, in the order in which they were configured."""


class Routes:
    """Which upstreams a name is asked of: those of the longest suffix that it lies in.

    ``missing`` says, in words for clients, why no route leads to some names although one should; it is empty where that
    is as configured. ``routed`` are the suffixes of special names that have a route of their own.
    """

    def __init__(self, routes: tuple[Route, ...], missing: str = "") -> None:
        self.missing = missing
        self._by_suffix: dict[Name, tuple[Upstream, ...]] = {}
        for route in routes:
            self._by_suffix[route.suffix] = (*self._by_suffix.get(route.suffix, ()), *route.upstreams)
        self.routed = frozenset(suffix for suffix in self._by_suffix if special_zone(suffix))

    @classmethod
    def parse(cls, texts: tuple[str, ...]) -> Routes:
        """One ``[DOMAIN=]UPSTREAM`` each; without a domain, for all names. Raises `BadUpstream`."""
        return cls(tuple(_parse_route(text) for text in texts))

    def upstreams(self, qname: Name) -> tuple[Upstream, ...]:
        """The upstreams to ask for ``qname``; none, where no route covers it."""
        name = qname
        while name != ROOT:
            if name in self._by_suffix:
                return self._by_suffix[name]
            name = name.parent
        return self._by_suffix.get(ROOT, ())

    @property
    def suffixes(self) -> Iterable[Name]:
        """The suffixes that have a route."""
        return self._by_suffix.keys()

    @property
    def all(self) -> frozenset[Upstream]:
        """Every upstream of every route."""
        return frozenset(upstream for upstreams in self._by_suffix.values() for upstream in upstreams)


def read_resolv_conf(text: str, own: frozenset[str]) -> tuple[Upstream, ...]:
    """The nameservers of a ``resolv.conf`` (resolv.conf(5)), but for the addresses in ``own``, which are ours."""
    fields = (line.split() for line in text.splitlines())
    hosts = [_canonical(words[1]) for words in fields if len(words) >= 2 and words[0] == "nameserver"]
    ours = {_canonical(host) for host in own}
    return tuple(Upstream(host, PORT) for host in dict.fromkeys(hosts) if host and host not in ours)


def _parse_route(text: str) -> Route:
    domain, equals, upstream = text.rpartition("=")
    if equals and not domain:  # as of a variable that is not set: all names would be forwarded there
        raise BadUpstream(f"{text!r} has no domain before the '=': write '.' for all names")
    try:
        suffix = Name.parse(domain) if equals else ROOT
    except Invalid as error:
        raise BadUpstream(f"{text!r}: {error}") from error
    if (zone := special_zone(suffix)) in UNROUTABLE:
        raise BadUpstream(f"{text!r} would never be used: this resolver itself answers names at and below {zone}")
    return Route(suffix, (Upstream.parse(upstream),))


def _canonical(text: str) -> str:
    """The address ``text`` in its usual form; empty if it is none. A scope (RFC 4007 §11) stays as it is."""
    address, percent, scope = text.partition("%")
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            usual = socket.inet_ntop(family, socket.inet_pton(family, address))
        except (OSError, ValueError):
            continue
        return usual + percent + scope if family == socket.AF_INET6 or not percent else ""
    return ""
