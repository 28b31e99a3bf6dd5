"""Negative controls: which clients must notice that a server is wrong, and by which look-up.

A harness that cannot fail proves nothing. Who else notices is recorded, not demanded.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.clients import world
from tests.clients.faults import SIXTY_FOUR
from tests.clients.roster import CLIENTS, GLIBC, MUSL
from tests.clients.scenarios import Expectation, Found, Some

MOST_OF_MUSL = 48  # addresses, whatever it is told


_API = Found(world.addresses("api"))


@dataclass(frozen=True, slots=True)
class Control:
    """``hurts`` holds the keys of the clients that must fail against the server with ``fault``."""

    fault: str
    hurts: frozenset[str]
    request: str = "any api.railway.internal"
    expect: Expectation = _API


_EVERYBODY = frozenset(client.key for client in CLIENTS) - {"sockets"}
_MUSL = frozenset(client.key for client in CLIENTS if client.family == MUSL)
_GLIBC = frozenset(client.key for client in CLIENTS if client.family == GLIBC)
_MUSL_WITHOUT_TCP = frozenset({"musl-1.2.2", "musl-1.2.3", "musl-debian"})

CONTROLS = (
    Control("nxdomain-for-a", _MUSL | {"nginx"}),
    Control("refused", _EVERYBODY),
    Control("aaaa-dropped", _EVERYBODY),
    Control("lame-nodata", frozenset({"glibc-single-request", "go"})),
    Control("authentic", frozenset({"nginx"})),
    Control("empty-tc", _MUSL_WITHOUT_TCP | {"busybox-nslookup", "drill"}),
    Control("tc-without-tcp", _EVERYBODY),
    Control("address-first", _GLIBC | {"c-ares"}, "any db.railway.internal"),
    Control("opt-in-answer", frozenset({"dnspython", "nginx", "kdig", "unbound-host"})),
    Control("64-records", frozenset({"musl-1.2.4"}), expect=Some(SIXTY_FOUR, MOST_OF_MUSL)),
    # drill takes a reply from anybody; with use-vc there is no datagram.
    Control("other-source", _EVERYBODY - {"drill", "glibc-use-vc"}),
    Control("tcp-closed", _GLIBC),
    Control("a-in-aaaa", _MUSL_WITHOUT_TCP | {"c-ares", "pycares", "go", "netty", "nginx"}),
)
