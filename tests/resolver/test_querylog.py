"""A watcher sees each query as it was answered."""

from __future__ import annotations

import asyncio

import pytest

from resolver import querylog
from resolver.querylog import Filter, Line, QueryLog
from resolver.reasons import Reasons
from resolver.server import Resolver
from tests import worlds
from tests.resolver.messages import query
from tests.resolver.servers import ask_tcp, ask_udp, serving
from tests.waiting import until

PRODUCTION = worlds.compiled(worlds.production())
STAGING = worlds.compiled(worlds.staging())


async def ask_some(resolver: Resolver) -> None:
    server = resolver.addresses[0]
    await ask_udp(server, query("db", payload=1232), worlds.PRODUCTION_SOURCE)
    await ask_udp(server, query("db", payload=1232), worlds.PRODUCTION_SOURCE)  # from the packet cache
    await ask_udp(server, query("nosuch"), worlds.STAGING_SOURCE)
    await ask_tcp(server, query("www.example.com.", "A"), worlds.PRODUCTION_SOURCE)
    await ask_udp(server, query("api"), worlds.OUTSIDE_SOURCE)


async def lines(queue: asyncio.Queue[Line], number: int) -> list[Line]:
    """The first ``number`` lines of ``queue``, which are made after the replies were sent; there are no more."""
    await until(lambda: queue.qsize() >= number)
    assert queue.qsize() == number
    return [queue.get_nowait() for _ in range(number)]


async def test_each_query_is_logged_as_it_was_answered() -> None:
    async with serving(PRODUCTION, STAGING) as resolver:
        await ask_some(resolver)  # nobody watches yet
        queue = resolver.querylog.watch(Filter())
        await ask_some(resolver)
        seen = await lines(queue, 5)
    first, again, missing, outside_name, outsider = seen
    assert (first.name, first.type, first.rcode, first.environment) == (
        "db.railway.internal.",
        "AAAA",
        "NOERROR",
        "production",
    )
    assert first.aliases == ("single.railway.internal.",)
    assert "fd12:5b1e:90c4:2::1" in first.answers[1]
    assert (first.source, first.transport, first.scope, first.edns) == ("127.0.0.2", "udp", "environment", 1232)
    assert 0 < first.duration_ms < 1000
    assert again.answers == first.answers
    assert (missing.rcode, missing.environment, missing.edns) == ("NXDOMAIN", "staging", None)
    assert (outside_name.rcode, outside_name.transport) == ("REFUSED", "tcp")
    assert (outsider.environment, outsider.scope, outsider.rcode) == (None, "outside", "REFUSED")


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        (Filter(environment="staging"), ["nosuch.railway.internal."]),
        (Filter(name="example.com"), ["www.example.com."]),
        (Filter(name="xample.com"), []),
        (Filter(rcode="nxdomain"), ["nosuch.railway.internal."]),
        (Filter(failed=True), ["nosuch.railway.internal.", "www.example.com.", "api.railway.internal."]),
    ],
)
async def test_a_watcher_sees_what_it_asked_for(wanted: Filter, names: list[str]) -> None:
    async with serving(PRODUCTION, STAGING) as resolver:
        queue = resolver.querylog.watch(wanted)
        await ask_some(resolver)
        assert [line.name for line in await lines(queue, len(names))] == names


async def test_it_is_off_when_the_last_watcher_has_gone() -> None:
    log = QueryLog(Reasons())
    first, second = log.watch(Filter()), log.watch(Filter())
    log.unwatch(first)
    assert log.is_on
    log.unwatch(second)
    assert not log.is_on


async def test_under_load_some_are_passed_over_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(querylog, "MOST_LINES", 10)
    monkeypatch.setattr(querylog, "QUEUE", 5)
    now = 100.0
    async with serving(PRODUCTION) as resolver:
        log = resolver.querylog
        log._clock = lambda: now
        queue = log.watch(Filter())
        for _ in range(20):
            await ask_udp(resolver.addresses[0], query("single"), worlds.PRODUCTION_SOURCE)
        await until(lambda: queue.skipped.total() == 15)
        await lines(queue, 5)
        now = 101.0
        await ask_udp(resolver.addresses[0], query("single"), worlds.PRODUCTION_SOURCE)
        await lines(queue, 1)


async def test_what_nobody_wants_is_not_even_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does it count against the lines of a second: a narrow filter sees all that it asked for."""
    monkeypatch.setattr(querylog, "MOST_LINES", 1)
    monkeypatch.setattr(querylog, "_describe", None)
    async with serving(PRODUCTION, STAGING) as resolver:
        log = resolver.querylog
        filters = [
            Filter(environment="nowhere"), Filter(name="elsewhere.example"), Filter(rcode="notimp"),
            Filter(environment="production", failed=True, name="single"),
        ]  # fmt: skip
        watches = [log.watch(wanted) for wanted in filters]
        for _ in range(5):
            await ask_some(resolver)
        assert (sum(watch.skipped.total() for watch in watches), len(log._unmade)) == (0, 0)


async def test_replies_are_sent_before_their_lines_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(PRODUCTION) as resolver:
        queue = resolver.querylog.watch(Filter())
        monkeypatch.setattr(resolver.querylog, "_make_some", lambda: None)
        await ask_udp(resolver.addresses[0], query("db"), worlds.PRODUCTION_SOURCE)
        await ask_tcp(resolver.addresses[0], query("db"), worlds.PRODUCTION_SOURCE)
        assert (queue.qsize(), len(resolver.querylog._unmade)) == (0, 2)


WANTED = [
    *(Filter(rcode=rcode) for rcode in ("noerror", "NXDOMAIN", "refused", "badvers", "RCODE77")),
    *(Filter(name=name) for name in ("db", "DB.railway.internal", "www.example.com.", ".", r"\\255.railway", "single")),
    *(Filter(environment=environment) for environment in ("production", "staging")),
    Filter(failed=True),
]


async def test_the_quick_look_never_refuses_what_is_wanted() -> None:
    async with serving(PRODUCTION, STAGING) as resolver:
        everything = resolver.querylog.watch(Filter())
        packets = [query("db"), query("api", payload=1232), query("nosuch"), query("DB"), query("www.example.com.")]
        sent = [(one, await ask_udp(resolver.addresses[0], one, worlds.PRODUCTION_SOURCE)) for one in packets]
        made = await lines(everything, len(packets))
    for wanted in WANTED:
        for line, (packet, reply) in zip(made, sent, strict=True):
            if wanted.wants(line):
                assert wanted.may_want(line.environment, packet, reply), (wanted, line)


async def test_a_name_that_is_no_text_is_logged_too() -> None:
    async with serving(PRODUCTION) as resolver:
        queue = resolver.querylog.watch(Filter())
        packet = bytearray(query("xxx"))
        packet[13:16] = b"\xff\0."
        await ask_udp(resolver.addresses[0], bytes(packet), worlds.PRODUCTION_SOURCE)
        (line,) = await lines(queue, 1)
        assert (line.name, line.rcode) == (r"\255\000\..railway.internal.", "NXDOMAIN")
