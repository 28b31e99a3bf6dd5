"""The query log says why a look-up failed, whether or not the client's reply has room for it."""

from __future__ import annotations

import socket

import pytest

from resolver import responder
from resolver.forward.forwarder import Forwarder
from resolver.forward.upstream import Routes
from resolver.querylog import Filter, Line
from resolver.reasons import MOST_REMEMBERED, OUR_FAULT, Reasons
from resolver.server import Resolver
from tests import worlds
from tests.resolver.messages import query, read
from tests.resolver.servers import ask_udp, serving
from tests.waiting import until
from zones.names import EnvironmentId

PRODUCTION = worlds.compiled(worlds.production())
STAGING = worlds.compiled(worlds.staging())
OFF = worlds.compiled(worlds.toggled(worlds.staging()))

# from, name, type, rcode → the reason
WHY = [
    (worlds.PRODUCTION_SOURCE, "nosuch", "AAAA", "NXDOMAIN", "environment 'production' has no name nosuch.railway"),
    (worlds.PRODUCTION_SOURCE, "dangling", "AAAA", "NXDOMAIN", "nowhere.railway.internal., which dangling."),
    (worlds.PRODUCTION_SOURCE, "api", "A", "NODATA", "api.railway.internal. is a service: no A records, only AAAA"),
    (worlds.PRODUCTION_SOURCE, "empty", "AAAA", "NODATA", "none of the 0 instances is answered: there are none"),
    (worlds.PRODUCTION_SOURCE, "db", "A", "NODATA", "single.railway.internal. is a service: no A records"),
    (worlds.PRODUCTION_SOURCE, "under.apps", "TXT", "NODATA", "no TXT records, only no records of its own"),
    (worlds.PRODUCTION_SOURCE, "loop", "AAAA", "SERVFAIL", "CNAME records in a row: is there a loop?"),
    (worlds.PRODUCTION_SOURCE, "printer.local.", "AAAA", "NXDOMAIN", "a name of private use"),
    (worlds.PRODUCTION_SOURCE, "@", "AXFR", "REFUSED", "zones are not transferred"),
    (worlds.PRODUCTION_SOURCE, "www.example.com.", "A", "REFUSED", "forwarding is not configured"),
    (worlds.STAGING_SOURCE, "api", "AAAA", "NXDOMAIN", "private networking is switched off for environment 'staging'"),
    (worlds.OUTSIDE_SOURCE, "api", "AAAA", "REFUSED", "this address belongs to no environment"),
    (worlds.UNBOUND_SOURCE, "api", "AAAA", "REFUSED", "bound to environment 'deleted', which does not exist"),
]  # fmt: skip


async def line_of(resolver: Resolver, packet: bytes, source: str) -> Line:
    """The line of one look-up."""
    queue = resolver.querylog.watch(Filter())
    await ask_udp(resolver.addresses[0], packet, source)
    await until(lambda: queue.qsize() == 1)
    resolver.querylog.unwatch(queue)
    return queue.get_nowait()


@pytest.mark.parametrize("payload", [None, 1232], ids=["plain", "edns"])
async def test_every_failure_has_its_reason(payload: int | None) -> None:
    async with serving(PRODUCTION, OFF) as resolver:
        for source, name, rtype, outcome, reason in WHY:
            for _ in range(2):  # the second time from the packet cache
                line = await line_of(resolver, query(name, rtype, payload=payload), source)
                assert ("NODATA" if line.nodata else line.rcode, reason in line.reason) == (outcome, True), line


async def test_a_good_answer_needs_no_reason() -> None:
    async with serving(PRODUCTION, STAGING) as resolver:
        for name, rtype in [("api", "AAAA"), ("db", "AAAA"), ("db", "CNAME"), ("@", "ANY"), ("crowd", "AAAA")]:
            line = await line_of(resolver, query(name, rtype), worlds.PRODUCTION_SOURCE)
            assert (line.rcode, line.reason, line.nodata) == ("NOERROR", "", False)


@pytest.mark.parametrize("payload", [None, 1232], ids=["plain", "edns"])
async def test_upstreams_that_are_dead(payload: int | None) -> None:
    """Nothing listens there, and the kernel says so."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    forwarder = Forwarder(Routes.parse((f"127.0.0.1:{port}",)), worlds.PLATFORM)
    async with serving(PRODUCTION, forwarder=forwarder) as resolver:
        line = await line_of(resolver, query("www.example.com.", payload=payload), worlds.PRODUCTION_SOURCE)
    assert (line.rcode, line.scope) == ("SERVFAIL", "external")
    assert "no upstream resolver" in line.reason


async def test_a_malformed_packet() -> None:
    async with serving(PRODUCTION) as resolver:
        packet = bytearray(query("api"))
        packet[2] |= 5 << 3  # UPDATE
        line = await line_of(resolver, bytes(packet), worlds.PRODUCTION_SOURCE)
        assert (line.rcode, line.reason) == (
            "NOTIMP",
            "only queries are served: no updates, notifications or other operations",
        )
        line = await line_of(resolver, query("api")[:20], worlds.PRODUCTION_SOURCE)
        assert (line.rcode, line.reason) == ("FORMERR", "the packet is no well-formed query")


async def test_a_fault_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(PRODUCTION) as resolver:
        monkeypatch.setattr(responder, "parse", None)
        line = await line_of(resolver, query("api"), worlds.PRODUCTION_SOURCE)
    assert (line.rcode, line.reason) == ("SERVFAIL", OUR_FAULT)


async def test_a_name_without_a_path_yet() -> None:
    """A zone was announced and is never published: after a second the client gets SERVFAIL."""
    async with serving(PRODUCTION) as resolver:
        resolver.announce(STAGING)
        line = await line_of(resolver, query("api"), worlds.STAGING_SOURCE)
    assert line.rcode == "SERVFAIL"
    assert "no path to it yet" in line.reason


async def test_nodata_is_asked_for_by_itself_or_with_failures() -> None:
    async with serving(PRODUCTION) as resolver:
        log = resolver.querylog
        wanted = {
            "failed": Filter(failed=True),
            "nodata": Filter(nodata=True),
            "both": Filter(failed=True, nodata=True),
        }
        queues = {name: log.watch(one) for name, one in wanted.items()}
        everything = log.watch(Filter())
        asked = [("api", "AAAA"), ("api", "A"), ("db", "A"), ("nosuch", "A")]
        for name, rtype in asked:
            assert read(await ask_udp(resolver.addresses[0], query(name, rtype), worlds.PRODUCTION_SOURCE))
        await until(lambda: everything.qsize() == len(asked))
        seen = {
            name: [queue.get_nowait().name.split(".")[0] for _ in range(queue.qsize())]
            for name, queue in queues.items()
        }
    assert seen == {"failed": ["nosuch"], "nodata": ["api", "db"], "both": ["api", "db", "nosuch"]}


def test_what_is_remembered_is_bounded_and_belongs_to_one_environment() -> None:
    reasons, shop = Reasons(), EnvironmentId("shop")
    for number in range(2 * MOST_REMEMBERED):
        reasons.note(shop, b"%d" % number, "because")
    last = b"%d" % (2 * MOST_REMEMBERED - 1)
    assert reasons.get(shop, last) == "because"
    assert (reasons.get(shop, b"0"), reasons.get(EnvironmentId("other"), last)) == ("", "")
    reasons.note(shop, last, "")
    assert reasons.get(shop, last) == ""
