"""What every client is asked, and what it must find."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address

from tests.clients import world
from tests.clients.session import Outcome

SLOW = 100.0  # milliseconds; more is reported
TOO_SLOW = 1000.0  # milliseconds; more fails

RESOLV_CONF = f"nameserver {world.RESOLVER}\nsearch {world.SUFFIX}\noptions ndots:1\n"
_TWO_SUFFIXES = RESOLV_CONF.replace("search ", f"search elsewhere.{world.SUFFIX} ")


@dataclass(frozen=True, slots=True)
class Found:
    """All of ``items``, and no others. A client that connects to one of them may name just that one."""

    items: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Some:
    """At least ``least`` of ``items``, and no others: what fits the client's limits."""

    items: tuple[str, ...]
    least: int


@dataclass(frozen=True, slots=True)
class Records:
    """At least one record."""


class Nothing:
    """The client knows at once that there is no such name, or that it has nothing of the kind."""


class Failure:
    """The client learns that nobody knows."""


Expectation = Found | Some | Records | Nothing | Failure


@dataclass(frozen=True, slots=True)
class Scenario:
    """One look-up. ``CLIENT`` in ``request`` stands for a label of each client's own, which no cache has seen.

    ``most`` is how many queries it may take, with those that the search list leads to.

    ``slowest`` is the longest that the whole look-up may take, and ``slowest_reply`` that one reply may, in
    milliseconds.
    """

    key: str
    title: str
    request: str
    expect: Expectation
    most: int
    needs_search: bool = False
    resolv_conf: str = RESOLV_CONF
    slowest: float = TOO_SLOW
    slowest_reply: float = TOO_SLOW

    def __str__(self) -> str:
        return self.key


def fault(outcome: Outcome, expect: Expectation, *, connects: bool = False, is_vague: bool = False) -> str:
    """What is wrong with the result of ``outcome``; empty if it is right."""
    shown = f"{outcome.status} {' '.join(outcome.items[:4])}"[:160]
    match expect:
        case Found(items):
            return "" if outcome.status == "ok" and _is_all(outcome.items, items, connects) else shown
        case Some(items, least):
            enough = 1 if connects else least
            return "" if outcome.status == "ok" and _is_part(outcome.items, items, enough) else shown
        case Records():
            return "" if outcome.status == "ok" and outcome.items and outcome.items[0] != "0" else shown
        case Nothing():
            return "" if outcome.status == "none" else shown
        case Failure():
            return "" if outcome.status == "fail" or (is_vague and outcome.status == "none") else shown


def _is_all(items: Iterable[str], wanted: tuple[str, ...], connects: bool) -> bool:
    found, expected = _plain(items), _plain(wanted)
    return found == expected or (connects and len(found) == 1 and found <= expected)


def _is_part(items: Iterable[str], wanted: tuple[str, ...], least: int) -> bool:
    found = _plain(items)
    return found <= _plain(wanted) and len(found) >= least


def _plain(items: Iterable[str]) -> set[str]:
    plain = set()
    for item in items:
        try:
            plain.add(str(ip_address(item)))
        except ValueError:
            plain.add(item.rstrip(".").lower())
    return plain


_API, _SIXTEEN, _SIXTY = (world.addresses(service) for service in ("api", "sixteen", "sixty"))
_UNKNOWN = "fd12:5b1e:90c4:1::dead"


def _pair(name: str) -> Found:
    return Found(world.addresses(name))


SCENARIOS = (
    Scenario("aaaa-only", "a service, which has only AAAA", "any api.railway.internal", Found(_API), 2),
    Scenario("missing", "a name that does not exist", "any nowhere.railway.internal", Nothing(), 4),
    Scenario("foreign", "a service of another environment", "any only-here.railway.internal", Nothing(), 4),
    Scenario("non-terminal", "an empty non-terminal", "any under.apps.railway.internal", Nothing(), 4),
    Scenario("sixteen", "16 instances", "any sixteen.railway.internal", Found(_SIXTEEN), 2),
    Scenario("sixty", "60 instances", "any sixty.railway.internal", Some(_SIXTY, 16), 4),
    Scenario("alias", "CNAME to a service", "any db.railway.internal", Found(_API), 2),
    Scenario("alias-outside", "CNAME to a public name", "any outside.railway.internal", Found(world.SMALL), 2),
    Scenario("mixed-case", "mixed case", "any MiXed.RAILWAY.Internal", _pair("mixed"), 2),
    Scenario("trailing-dot", "a trailing dot", "any dotted.railway.internal.", _pair("dotted"), 2),
    Scenario("single-label", "a single label, by the search list", "any single", _pair("single"), 2, needs_search=True),
    Scenario(
        "search-misses",
        "a search list whose first suffix misses",
        "any searched",
        _pair("searched"),
        4,
        needs_search=True,
        resolv_conf=_TWO_SUFFIXES,
    ),
    Scenario("only-ipv4", "only A looked up, only AAAA exists", "4 only4.railway.internal", Nothing(), 2),
    Scenario("only-ipv6", "only AAAA looked up", "6 only6.railway.internal", _pair("only6"), 1),
    Scenario("pointer", "PTR of an instance", f"ptr {_API[0]}", Found(("a1.api.railway.internal",)), 1),
    Scenario("no-pointer", "PTR of an unknown address", f"ptr {_UNKNOWN}", Nothing(), 2),
    Scenario("outside-small", "forwarded, small", "any CLIENT.small.example", Found(world.SMALL), 2),
    Scenario("outside-large", "forwarded, over 512 bytes", "any CLIENT.big.example", Some(world.BIG_V4, 16), 4),
    Scenario("outside-chain", "forwarded, 7 CNAMEs, 850 bytes", "any CLIENT.chain.example", Found(world.CHAIN_END), 4),
    Scenario("outside-missing", "forwarded, NXDOMAIN", "any CLIENT.nowhere.example", Nothing(), 4),
    Scenario("outside-nodata", "forwarded, NODATA", "any CLIENT.nodata.example", Nothing(), 4),
    Scenario(
        "outside-dead",
        "forwarded, no upstream answers",
        "any CLIENT.dead.example",
        Failure(),
        100,
        slowest=20_000,
        slowest_reply=2 * TOO_SLOW,  # the server's own deadline is a second; musl asks again after two and a half
    ),
    Scenario("localhost", "localhost", "any localhost", Some(("127.0.0.1", "::1"), 1), 4),
    Scenario("https", "HTTPS at a service", "type 65 typed.railway.internal", Nothing(), 1),
    Scenario("svcb", "SVCB at a service", "type 64 typed.railway.internal", Nothing(), 1),
    Scenario("txt", "TXT at a service", "type 16 typed.railway.internal", Nothing(), 2),
    Scenario("any", "ANY at a service", "type 255 typed.railway.internal", Records(), 2),
    Scenario("same-id", "A and AAAA from one port with one ID", "pair paired.railway.internal", _pair("paired"), 2),
    Scenario("hundred", "100 names at once", "many 100 many.railway.internal", Found(("100",)), 200),
    Scenario("longest", "a name of 253 bytes", f"any {world.LONGEST}", Found((world.WILD,)), 2),
)
