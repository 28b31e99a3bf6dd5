"""Upstream resolvers: how each is written down, and how well it does."""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass

from resolver.errors import ResolverError
from zones.names import ROOT, Name

PORT = 53
TLS_PORT = 853  # RFC 7858 §3.1
FIRST_GUESS = 0.05  # seconds; of a round trip to a resolver that was never asked
BACK_OFF_FIRST = 0.5  # seconds that a resolver which failed is asked only after all others
BACK_OFF_LAST = 30.0
_SMOOTHING = 0.125  # RFC 6298 §2: the share of the newest measurement

_WRITTEN = re.compile(
    r"(?P<tls>tls://)?(?:\[(?P<bracketed>[^\]]+)\]|(?P<plain>[^\]\[#]+?))(?::(?P<port>\d+))?(?:#(?P<name>[^#]+))?"
)


class BadUpstream(ResolverError):
    """An upstream is not written as it should be."""


@dataclass(frozen=True, slots=True)
class Upstream:
    """A resolver to ask: its address, and for DNS over TLS (RFC 7858) the name that its certificate must have."""

    host: str
    port: int
    tls_name: str | None = None

    @classmethod
    def parse(cls, text: str) -> Upstream:
        """``ADDRESS[:PORT]`` or ``tls://ADDRESS[:PORT][#NAME]``, IPv6 with a port in brackets. Raises `BadUpstream`."""
        if text.count(":") > 1 and "[" not in text and not text.startswith("tls://"):
            text = f"[{text}]"
        written = _WRITTEN.fullmatch(text)
        host = (written["bracketed"] or written["plain"]) if written else ""
        if not written or not _is_address(host):
            raise BadUpstream(f"{text!r} is not an upstream: write ADDRESS, ADDRESS:PORT or tls://ADDRESS#NAME")
        if written["name"] and not written["tls"]:
            raise BadUpstream(f"{text!r} names a certificate without tls://")
        port = int(written["port"] or (TLS_PORT if written["tls"] else PORT))
        if not 0 < port < 65536:
            raise BadUpstream(f"{text!r} has port {port}: use 1 to 65535")
        return cls(host, port, (written["name"] or host) if written["tls"] else None)

    @property
    def is_protected(self) -> bool:
        """Whether nobody can change its answers on their way: only then is its AD bit worth passing on."""
        return self.tls_name is not None or self.host == "::1" or self.host.startswith("127.")

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"tls://{host}:{self.port}#{self.tls_name}" if self.tls_name else f"{host}:{self.port}"


@dataclass(slots=True)
class Health:
    """How an upstream has done. Times in seconds, instants of a monotonic clock."""

    round_trip: float = FIRST_GUESS
    failures: int = 0
    rest_until: float = 0.0

    def succeeded(self, seconds: float) -> None:
        """It answered after ``seconds``."""
        self.round_trip += _SMOOTHING * (seconds - self.round_trip)
        self.failures = 0
        self.rest_until = 0.0

    def failed(self, now: float) -> None:
        """It did not answer, or not usefully: the others go first for a while, longer with each failure in a row."""
        self.failures += 1
        self.rest_until = now + min(BACK_OFF_FIRST * 2 ** min(self.failures - 1, 10), BACK_OFF_LAST)

    def rank(self, now: float) -> tuple[bool, float]:
        """The lower, the sooner it is asked."""
        return self.rest_until > now, self.round_trip


@dataclass(frozen=True, slots=True)
class Route:
    """Names at and below ``suffix`` are asked of ``upstreams``."""

    suffix: Name
    upstreams: tuple[Upstream, ...]


class Routes:
    """Which upstreams are asked for a name: those of the longest suffix."""

    def __init__(self, routes: tuple[Route, ...]) -> None:
        self._by_suffix: dict[Name, tuple[Upstream, ...]] = {}
        for route in routes:
            self._by_suffix[route.suffix] = (*self._by_suffix.get(route.suffix, ()), *route.upstreams)

    @classmethod
    def parse(cls, texts: tuple[str, ...]) -> Routes:
        """One ``[DOMAIN=]UPSTREAM`` each; without a domain, for all names. Raises `BadUpstream` and ``ValueError``."""
        return cls(tuple(_parse_route(text) for text in texts))

    def upstreams(self, qname: Name) -> tuple[Upstream, ...]:
        """Who to ask for ``qname``; nobody, where no route leads there."""
        name = qname
        while name != ROOT:
            if name in self._by_suffix:
                return self._by_suffix[name]
            name = name.parent
        return self._by_suffix.get(ROOT, ())

    @property
    def all(self) -> frozenset[Upstream]:
        """Every upstream of every route."""
        return frozenset(upstream for upstreams in self._by_suffix.values() for upstream in upstreams)


def read_resolv_conf(text: str, own: frozenset[str]) -> tuple[Upstream, ...]:
    """The nameservers of a ``resolv.conf`` (resolv.conf(5)), but for the addresses in ``own``, which are ours."""
    fields = (line.split() for line in text.splitlines())
    hosts = [words[1] for words in fields if len(words) >= 2 and words[0] == "nameserver"]
    return tuple(Upstream(host, PORT) for host in dict.fromkeys(hosts) if _is_address(host) and host not in own)


def _parse_route(text: str) -> Route:
    domain, equals, upstream = text.rpartition("=")
    return Route(Name.parse(domain) if equals else ROOT, (Upstream.parse(upstream),))


def _is_address(text: str) -> bool:
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, text)
        except (OSError, ValueError):
            continue
        return True
    return False
