"""What each resolver is sent, and which resolvers are cut off; over real sockets."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from msgspec.structs import replace

from support import breaks
from tests.waiting import DEADLINE, until
from tests.watcher.feed.ends import Puppet, production, publish, puppet, resolver, staging
from tests.worlds import NOW, PRODUCTION, STAGING, build
from watcher import publisher as publishing
from watcher.feed import connection as connection_module
from watcher.feed import server as server_module
from watcher.feed.server import FeedServer
from zones import document
from zones.edits import PutInstance, PutService, apply
from zones.model import Environment
from zones.names import EnvironmentId

# What is sent


async def test_a_new_resolver_is_sent_what_is_ready_before_what_is_pending(server: FeedServer, path: Path) -> None:
    server.announce(build("later", 3))
    await publish(server, production(7), staging())
    server.announce(production(8))
    async with puppet(path) as it:
        assert await it.receive_all(6) == [
            "pending production 7", "ready production 7", "pending production 8",
            "pending staging 2", "ready staging 2",
            "pending later 1",
        ]  # fmt: skip
        server.loaded()
        assert await it.receive() == "loaded"
        server.withdraw(STAGING)
        assert await it.receive() == "withdrawn staging"


async def test_a_slow_resolver_is_sent_the_newest_revision_and_no_backlog(
    server: FeedServer, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "CONFIRM_DEADLINE", DEADLINE)  # the machine may be slow, too
    monkeypatch.setattr(connection_module, "REPLY_DEADLINE", DEADLINE)
    async with puppet(path) as it:
        await until(lambda: server.resolvers)
        waiting = []
        for revision in range(1, 1001):
            server.announce(production(revision))
            waiting.append(asyncio.ensure_future(server.publish(production(revision))))
        lines: list[str] = []
        while not lines or lines[-1] != "ready production 1000":
            lines.append(await it.receive())
            if lines[-1].startswith("ready"):
                it.send(lines[-1].replace("ready", "served"))
        assert len(lines) < 100
        await asyncio.gather(*waiting)
        assert server.counts.unconfirmed == 0


async def test_a_resolver_that_understands_differences_is_sent_an_environment_whole_once(
    server: FeedServer, path: Path
) -> None:
    """One of an earlier release, which does not say that it does, is sent all of it each time."""
    newer = apply(production(), [PutInstance("api", "a2")], NOW)
    async with puppet(path, takes_differences=True) as it, puppet(path) as older:
        await until(lambda: server.resolvers == 2)
        publishing = asyncio.create_task(publish(server, production()))
        for one in (it, older):
            assert await one.receive_all(2) == ["pending production 1", "ready production 1"]
            one.send("served production 1")
        await publishing
        publishing = asyncio.create_task(publish(server, newer))
        assert await it.receive_all(2) == ["change production 2", "ready production 2"]
        assert await older.receive_all(2) == ["pending production 2", "ready production 2"]
        it.send("refused production 2")
        older.send("served production 2")
        await publishing
        server.announce(apply(newer, [PutInstance("api", "a3")], NOW))
        assert await it.receive() == "pending production 3", "there is nothing that a difference could be applied to"
        server.withdraw(PRODUCTION)
        assert await it.receive() == "withdrawn production"
        server.announce(production(4))
        assert await it.receive() == "pending production 4"


async def test_many_and_large_documents(server: FeedServer, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines longer than any buffer, read in a thread; and work in slices."""
    monkeypatch.setattr(publishing, "LARGE_DOCUMENT", 400)
    monkeypatch.setattr(breaks, "AFTER", 0.0)
    monkeypatch.setattr(server_module, "CONFIRM_DEADLINE", DEADLINE)
    crowd = build("crowd", 999, PutService("api"), *(PutInstance("api", f"i{number}") for number in range(5000)))
    environments = [crowd, *(build(f"e{number}", 1000 + number, PutService("api")) for number in range(200))]
    assert len(document.encode(crowd)) > 1 << 17
    await publish(server, *environments[::2])
    async with resolver(path, server) as (_, recorder):
        await publish(server, *environments[1::2])
        await until(lambda: recorder.holds(*environments))
        assert server.counts.unconfirmed == 0


async def test_a_revision_is_published_while_a_newer_one_stays_pending(server: FeedServer, path: Path) -> None:
    """The newer one stays pending all the time, so no client is told "no such name" for a name in it."""
    async with resolver(path, server) as (follower, recorder), puppet(path) as it:
        await publish_confirmed(server, it, production(1))
        for revision in (2, 3):
            server.announce(production(revision))
            await it.receive()
            await until(lambda: recorder.pending and recorder.pending[PRODUCTION].revision == revision)  # noqa: B023 waited for
        del recorder.events[:]
        publishing_ = asyncio.ensure_future(server.publish(production(2)))
        assert await it.receive() == "serve production 2"
        it.send("served production 2")
        await publishing_
        assert recorder.events == [("publish", PRODUCTION)]
        assert follower.revisions == {PRODUCTION: 2}
        assert recorder.pending[PRODUCTION].revision == 3
        publishing_ = asyncio.ensure_future(server.publish(production(3)))
        assert await it.receive() == "ready production 3"
        it.send("served production 3")
        await publishing_
        assert (follower.revisions, recorder.pending) == ({PRODUCTION: 3}, {})
        assert server.counts.unconfirmed == 0


async def publish_confirmed(server: FeedServer, it: Puppet, environment: Environment) -> None:
    publishing_ = asyncio.ensure_future(publish(server, environment))
    await it.receive_all(2)
    it.send(f"served {environment.id} {environment.revision}")
    await publishing_


async def test_a_pending_revision_ends_when_another_is_published(server: FeedServer, path: Path) -> None:
    """Also if the one that is published is older, as in a store that was restored from a copy."""
    async with resolver(path, server) as (follower, recorder):
        await publish(server, production(7))
        server.announce(production(8))
        await until(lambda: recorder.pending)
        await publish(server, production(3))
        assert (follower.revisions, recorder.pending) == ({PRODUCTION: 3}, {})


async def test_the_same_revision_can_be_published_again(server: FeedServer, path: Path) -> None:
    async with resolver(path, server) as (_, recorder):
        await publish(server, production(4))
        await publish(server, production(4))
        await server.publish(production(4))
        other = replace(build(PRODUCTION, 1, PutService("web")), revision=4)
        await publish(server, other)
        assert recorder.holds(other)
        assert server.counts.unconfirmed == 0


async def test_an_environment_that_is_only_pending_can_be_withdrawn(server: FeedServer, path: Path) -> None:
    async with resolver(path, server) as (_, recorder):
        server.announce(staging())
        await until(lambda: recorder.pending)
        server.withdraw(STAGING)
        await until(lambda: not recorder.pending)
        assert recorder.events == [("announce", STAGING), ("withdraw", STAGING)]


async def test_an_environment_created_again_is_withdrawn_first(server: FeedServer, path: Path) -> None:
    """Both at once, so that the feed has no time to send one before the other."""
    async with resolver(path, server) as (_, recorder):
        await publish(server, production(7))
        server.withdraw(PRODUCTION)
        again = replace(build(PRODUCTION, 9), revision=9)
        server.announce(again)
        await until(lambda: PRODUCTION in recorder.pending)
        assert recorder.holds()
        await server.publish(again)
        assert recorder.holds(again)


# Resolvers that hang or break the protocol


async def test_a_resolver_that_hangs_is_cut_off_and_takes_little_memory(
    server: FeedServer, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "CONFIRM_DEADLINE", 0.05)
    monkeypatch.setattr(connection_module, "REPLY_DEADLINE", 0.5)
    crowd = build("crowd", 9, PutService("api"), *(PutInstance("api", f"i{number}") for number in range(3000)))
    size = len(document.encode(crowd))
    async with puppet(path), resolver(path, server) as (_, recorder):
        await until(lambda: server.resolvers == 2)
        [hung, _] = server._connections
        most = 0
        for revision in range(1, 500):
            await publish(server, replace(crowd, revision=revision))
            most = max(most, hung.writer.transport.get_write_buffer_size())
            if server.resolvers == 1:
                break
        assert server.counts.cut_off == 1
        assert revision > 2
        assert most < 3 * size  # of two lines at a time, whatever the number of commits
        unconfirmed = server.counts.unconfirmed
        monkeypatch.setattr(server_module, "CONFIRM_DEADLINE", DEADLINE)
        await publish(server, replace(crowd, revision=1000))
        assert recorder.zones[EnvironmentId("crowd")].revision == 1000
        assert server.counts.unconfirmed == unconfirmed


async def test_a_slow_resolver_that_replies_is_not_cut_off(
    server: FeedServer, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "REPLY_DEADLINE", 0.6)
    async with puppet(path) as it:
        await until(lambda: server.resolvers)
        publishing_ = asyncio.ensure_future(publish(server, *(build(f"e{number}", number + 1) for number in range(5))))
        for question in [line for line in await it.receive_all(10) if line.startswith("ready")]:
            await asyncio.sleep(0.15)
            it.send(question.replace("ready", "served"))
        await asyncio.sleep(0.7)
        assert (server.resolvers, server.counts.cut_off) == (1, 0)
        await publishing_


@pytest.mark.parametrize(
    "line", ["served production 2", "served staging 1", "served", "good morning", "", "\xff", "x" * 100_000]
)
async def test_a_resolver_that_breaks_the_protocol_is_cut_off(server: FeedServer, path: Path, line: str) -> None:
    await publish(server, production())
    async with puppet(path) as it:
        await it.receive_all(2)
        it.send(line)
        assert await it.receive() == ""
        await until(lambda: not server.resolvers)
        assert server.counts.cut_off == 1


async def test_a_resolver_that_replies_without_being_asked_is_cut_off(server: FeedServer, path: Path) -> None:
    async with puppet(path) as it:
        it.send("served production 1")
        assert await it.receive() == ""
