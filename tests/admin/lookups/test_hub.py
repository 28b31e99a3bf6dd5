"""What all viewers want together is asked for once, and each gets its own of it."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import pytest

from admin.errors import RateLimited
from admin.lookups import hub as module
from admin.lookups.hub import MOST, LookupHub
from admin.lookups.viewers import BATCHES, Batch, Viewer
from tests.waiting import scaled, until
from watcher.session.lookups import Lookup, LookupFilter

ALL = LookupFilter()
DEADLINE = scaled(60.0)  # seconds


@dataclass(eq=False)
class Host:
    """A source that keeps what it is asked."""

    host: str | None
    resolvers: int | None = 1
    asked: list[tuple[tuple[LookupFilter, ...], int]] = field(default_factory=list)
    shares: list[int] = field(default_factory=list)  # look-ups a second, of each time it was asked

    def watch(self, filters: tuple[LookupFilter, ...], most: int) -> None:
        self.shares.append(most)
        if not self.asked or self.asked[-1][0] != filters:
            self.asked.append((filters, most))


def lookup(name: str, environment: str | None = "production", **fields: object) -> Lookup:
    return Lookup(1.0, environment, "fd12::1", f"{name}.", "AAAA", str(fields.get("rcode", "NOERROR")))


async def read(viewer: Viewer, number: int) -> list[str]:
    """The names of the next ``number`` look-ups."""
    names: list[str] = []
    while len(names) < number:
        batch = await viewer.next(DEADLINE)
        assert batch
        assert batch != Batch(), "waited in vain"
        names += [one.name for one in batch.lookups]
    return names


async def test_two_hundred_viewers_ask_once_and_a_lookup_is_encoded_once_for_all_of_them() -> None:
    hub, host = LookupHub(), Host("h1")
    hub.add(host)
    async with AsyncExitStack() as stack:
        viewers = [await stack.enter_async_context(hub.watched(ALL, f"t{number % 4}")) for number in range(200)]
        assert host.asked == [((), MOST // 2), ((ALL,), MOST // 2)]
        hub.take([lookup("a"), lookup("b")], {})
        batches = []
        for viewer in viewers:
            while not (batch := await viewer.next(DEADLINE)) or not batch.lookups:
                pass
            batches.append(batch)
        assert len({id(batch.encoded) for batch in batches}) == 1
    assert host.asked[-1][0] == ()
    assert hub.viewers == 0
    assert hub._flushing is None


async def test_a_source_that_comes_or_goes_costs_the_others_nothing_and_shares_follow() -> None:
    hub, hosts = LookupHub(), [Host(f"h{number}") for number in range(4)]
    async with hub.watched(ALL, "root"):
        for host in hosts:
            hub.add(host)
        assert [len(host.shares) for host in hosts] == [1, 1, 1, 1]
        await until(lambda: all(host.shares[-1] == MOST // 4 for host in hosts))
        hub.remove(hosts.pop())
        hub.remove(hosts.pop())
        await until(lambda: all(host.shares[-1] == MOST // 2 for host in hosts))


async def test_each_viewer_gets_what_it_wants_and_no_other_environment() -> None:
    hub = LookupHub()
    own = LookupFilter(environment="staging")
    failed = LookupFilter(environment="production", failed=True)
    async with hub.watched(ALL, "root") as all_, hub.watched(own, "a") as staging, hub.watched(failed, "b") as failing:
        hub.take([lookup("x"), lookup("y", rcode="NXDOMAIN"), lookup("z", "staging"), lookup("o", None)], {})
        assert await read(all_, 4) == ["x.", "y.", "z.", "o."]
        assert await read(staging, 1) == ["z."]
        assert await read(failing, 1) == ["y."]


async def test_what_was_left_out_is_told_to_those_whose_environment_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REFRESH_EVERY", 1)
    hub = LookupHub(expected=lambda _: ["h1", "h2", "h3"])
    for host in (Host("h1"), Host("h2", resolvers=0), Host(None)):
        hub.add(host)
    own = LookupFilter(environment="staging")
    async with hub.watched(ALL, "root") as all_, hub.watched(own, "a") as staging:
        hub.take([], {"production": 5, "staging": 2})
        for viewer, number in ((all_, 7), (staging, 2)):
            while not (batch := await viewer.next(DEADLINE)) or not batch.status or not batch.status.left_out:
                pass
            status = batch.status
            assert (status.heard, status.silent, status.unheard, status.here) == (("h1",), ("h2",), ("h3",), True)
            assert status.left_out == number


async def test_a_slow_viewer_holds_up_nobody_and_hears_how_much_it_lost() -> None:
    hub = LookupHub()
    async with hub.watched(ALL, "root") as slow:
        group = hub._groups[ALL]
        for _ in range(BATCHES + 5):
            group.put(lookup("x"))
            group.flush(None)
        assert slow.lost == 6  # the status of the beginning waits as well
        assert len(slow._waiting) == BATCHES


async def test_viewers_are_bounded() -> None:
    hub = LookupHub()
    async with AsyncExitStack() as stack:
        for _ in range(module.MOST_OF_ONE_ACTOR):
            await stack.enter_async_context(hub.watched(ALL, "a"))
        with pytest.raises(RateLimited):
            await stack.enter_async_context(hub.watched(ALL, "a"))
        await stack.enter_async_context(hub.watched(ALL, "b"))


async def test_many_different_filters_become_few() -> None:
    hub, host = LookupHub(), Host("h1")
    hub.add(host)
    async with AsyncExitStack() as stack:
        for number in range(17):
            await stack.enter_async_context(hub.watched(LookupFilter("production", name=f"n{number}"), "a"))
        assert host.asked[-1][0] == (LookupFilter("production"),)
        for number in range(17):
            await stack.enter_async_context(hub.watched(LookupFilter(f"e{number}"), "a"))
        assert host.asked[-1][0] == (ALL,)


async def test_the_end_of_the_process_ends_the_viewers() -> None:
    hub = LookupHub()
    async with hub.watched(ALL, "root") as viewer:
        hub.close()
        assert await viewer.next(DEADLINE) is None
