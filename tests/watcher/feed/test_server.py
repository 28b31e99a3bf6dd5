"""The feed, over real sockets: what resolvers are told, when it counts as answered, and who cannot hold it up."""

from __future__ import annotations

import asyncio
import grp
import os
import re
import socket
import stat
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
import pytest_asyncio
from msgspec.structs import replace

from tests.waiting import DEADLINE, until
from tests.watcher.harness import Recorder
from tests.worlds import NOW, PLATFORM, PRODUCTION, STAGING, build
from watcher import publisher as publishing
from watcher.errors import FeedUnusable
from watcher.feed import follower as following_module
from watcher.feed import server as feed_module
from watcher.feed.follower import Follower
from watcher.feed.server import SOCKET, FeedServer
from zones import document
from zones.edits import PutInstance, PutService, apply
from zones.model import Environment
from zones.names import EnvironmentId, Name

GROUP = grp.getgrgid(os.getgid()).gr_name


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "agent" / SOCKET


@pytest_asyncio.fixture
async def server(path: Path) -> AsyncIterator[FeedServer]:
    server = FeedServer(path)
    await server.start()
    yield server
    await server.stop()


@asynccontextmanager
async def agent(path: Path, *environments: Environment, loaded: bool = True) -> AsyncIterator[FeedServer]:
    """An agent that has a way to all of ``environments``."""
    server = FeedServer(path)
    await server.start()
    try:
        await tell(server, *environments)
        if loaded:
            server.loaded()
        yield server
    finally:
        await server.stop()


@asynccontextmanager
async def resolver(
    path: Path, server: FeedServer | None = None, clock: Callable[[], float] = time.time
) -> AsyncIterator[tuple[Follower, Recorder]]:
    """A follower, connected to ``server`` if one is given."""
    recorder, others = Recorder(), server.resolvers if server else 0
    follower = Follower(path, PLATFORM, recorder, clock)
    task = asyncio.create_task(follower.run())
    try:
        await until(lambda: server is None or server.resolvers > others)
        yield follower, recorder
        assert not task.done(), task.exception()
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@dataclass
class Puppet:
    """A resolver that says only what the test has it say."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def hear(self) -> str:
        """The next line; of a document, its revision alone. Empty where the agent has hung up."""
        async with asyncio.timeout(DEADLINE):
            with suppress(ConnectionError):
                return " ".join((await self.reader.readline()).decode().split()[:3])
        return ""

    async def hear_all(self, number: int) -> list[str]:
        return [await self.hear() for _ in range(number)]

    def say(self, line: str) -> None:
        self.writer.write(line.encode() + b"\n")


@asynccontextmanager
async def puppet(path: Path) -> AsyncIterator[Puppet]:
    reader, writer = await asyncio.open_unix_connection(path, limit=1 << 24)
    try:
        yield Puppet(reader, writer)
    finally:
        writer.transport.abort()


async def tell(server: FeedServer, *environments: Environment) -> None:
    """The agent hears of ``environments`` and has made the way to them."""
    for environment in environments:
        server.announce(environment)
    await asyncio.gather(*(server.publish(environment) for environment in environments))


def production(revision: int = 1) -> Environment:
    return replace(build(PRODUCTION, 1, PutService("api"), PutInstance("api", "a1")), revision=revision)


def staging() -> Environment:
    return build(STAGING, 2, PutService("api"), PutInstance("api", "a1"))


# What is told


async def test_who_comes_is_told_what_is_ready_then_what_is_coming(server: FeedServer, path: Path) -> None:
    server.announce(build("later", 3))
    await tell(server, production(7), staging())
    server.announce(production(8))
    async with puppet(path) as it:
        assert await it.hear_all(6) == [
            "coming production 7", "ready production 7", "coming production 8", "coming staging 2", "ready staging 2",
            "coming later 1",
        ]  # fmt: skip
        server.loaded()
        assert await it.hear() == "loaded"
        server.withdraw(STAGING)
        assert await it.hear() == "gone staging"


async def test_a_follower_announces_publishes_withdraws_and_is_loaded_once(server: FeedServer, path: Path) -> None:
    await tell(server, production())
    async with resolver(path, server) as (follower, recorder):
        await until(lambda: recorder.holds(production()))
        assert not recorder.is_loaded
        server.loaded()
        server.loaded()
        await until(lambda: recorder.is_loaded)
        server.announce(staging())
        await until(lambda: STAGING in recorder.coming)
        assert recorder.holds(production())
        await server.publish(staging())
        assert recorder.holds(production(), staging())
        assert follower.revisions == server_revisions(server) == {PRODUCTION: 1, STAGING: 2}
        server.withdraw(PRODUCTION)
        await until(lambda: recorder.holds(staging()))
        assert [event for event in recorder.events if event[0] != "loaded"] == [
            ("announce", PRODUCTION), ("publish", PRODUCTION), ("announce", STAGING), ("publish", STAGING),
            ("withdraw", PRODUCTION),
        ]  # fmt: skip
        assert (follower.counts.changes, follower.counts.published, follower.counts.withdrawn) == (2, 2, 1)
        assert server.counts == feed_module.Counts()


def server_revisions(server: FeedServer) -> dict[EnvironmentId, int]:
    return {id_: state.ready.revision for id_, state in server.states.items() if state.ready}


async def test_what_was_only_coming_can_go_too(server: FeedServer, path: Path) -> None:
    async with resolver(path, server) as (_, recorder):
        server.announce(staging())
        await until(lambda: recorder.coming)
        server.withdraw(STAGING)
        await until(lambda: not recorder.coming)
        assert recorder.events == [("announce", STAGING), ("withdraw", STAGING)]


async def test_an_environment_made_anew_is_first_gone(server: FeedServer, path: Path) -> None:
    """Both at once, so that the feed has no time to tell of one before the other."""
    async with resolver(path, server) as (_, recorder):
        await tell(server, production(7))
        server.withdraw(PRODUCTION)
        again = replace(build(PRODUCTION, 9), revision=9)
        server.announce(again)
        await until(lambda: PRODUCTION in recorder.coming)
        assert recorder.holds()
        await server.publish(again)
        assert recorder.holds(again)


async def test_many_and_large_ones(server: FeedServer, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines longer than any buffer, read in a thread; and work in slices."""
    monkeypatch.setattr(publishing, "LARGE_DOCUMENT", 400)
    monkeypatch.setattr(following_module, "SLICE", 0.0)
    monkeypatch.setattr(feed_module, "SERVE_DEADLINE", DEADLINE)
    crowd = build("crowd", 999, PutService("api"), *(PutInstance("api", f"i{number}") for number in range(5000)))
    environments = [crowd, *(build(f"e{number}", 1000 + number, PutService("api")) for number in range(200))]
    assert len(document.encode(crowd)) > 1 << 17
    await tell(server, *environments[::2])
    async with resolver(path, server) as (_, recorder):
        await tell(server, *environments[1::2])
        await until(lambda: recorder.holds(*environments))
        assert server.counts.unconfirmed == 0


async def test_however_many_commits_come_a_slow_one_is_told_the_newest(server: FeedServer, path: Path) -> None:
    async with puppet(path) as it:
        await until(lambda: server.resolvers)
        waiting = []
        for revision in range(1, 1001):
            server.announce(production(revision))
            waiting.append(asyncio.ensure_future(server.publish(production(revision))))
        lines: list[str] = []
        while not lines or lines[-1] != "ready production 1000":
            lines.append(await it.hear())
            if lines[-1].startswith("ready"):
                it.say(lines[-1].replace("ready", "served"))
        assert len(lines) < 100
        await asyncio.gather(*waiting)
        assert server.counts.unconfirmed == 0


# When it counts as answered


async def test_a_publication_is_over_when_all_have_confirmed(server: FeedServer, path: Path) -> None:
    async with puppet(path) as one, puppet(path) as other:
        await until(lambda: server.resolvers == 2)
        server.announce(production())
        publishing_ = asyncio.ensure_future(server.publish(production()))
        for it in (one, other):
            assert await it.hear_all(2) == ["coming production 1", "ready production 1"]
        one.say("served production 1")
        await asyncio.sleep(0.05)
        assert not publishing_.done()
        other.say("served production 1")
        await publishing_
        assert server.counts.unconfirmed == 0


async def test_without_resolvers_a_publication_is_over_at_once(server: FeedServer) -> None:
    began = time.monotonic()
    await tell(server, production(), staging())
    assert time.monotonic() - began < feed_module.SERVE_DEADLINE / 2
    assert server.counts.unconfirmed == 0


async def test_one_that_says_nothing_is_waited_for_until_the_deadline(
    server: FeedServer, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_module, "SERVE_DEADLINE", 0.2)
    async with puppet(path), resolver(path, server) as (_, recorder):
        await until(lambda: server.resolvers == 2)
        began = time.monotonic()
        await tell(server, production())
        assert time.monotonic() - began >= 0.2
        assert recorder.holds(production())
        assert server.counts.unconfirmed == 1


async def test_one_that_goes_is_waited_for_no_longer(server: FeedServer, path: Path) -> None:
    async with puppet(path) as it:
        await until(lambda: server.resolvers)
        publishing_ = asyncio.ensure_future(tell(server, production()))
        await it.hear()
    began = time.monotonic()
    await publishing_
    assert time.monotonic() - began < feed_module.SERVE_DEADLINE / 2
    assert (server.resolvers, server.counts.unconfirmed) == (0, 0)


async def test_what_is_withdrawn_meanwhile_is_waited_for_no_longer(server: FeedServer, path: Path) -> None:
    async with puppet(path) as it:
        await until(lambda: server.resolvers)
        publishing_ = asyncio.ensure_future(tell(server, production()))
        assert await it.hear_all(2) == ["coming production 1", "ready production 1"]
        server.withdraw(PRODUCTION)
        await publishing_
        assert await it.hear() == "gone production"
        assert server.counts.unconfirmed == 0


async def test_what_was_withdrawn_before_is_not_published(server: FeedServer, path: Path) -> None:
    """The agent publishes when it has made the way, and may have heard of the end meanwhile."""
    async with resolver(path, server) as (_, recorder):
        await tell(server, production(), staging())
        server.withdraw(PRODUCTION)
        await server.publish(production())
        await until(lambda: recorder.holds(staging()))
        await tell(server, staging())
        assert recorder.holds(staging())


async def test_an_older_one_is_published_while_a_newer_is_coming(server: FeedServer, path: Path) -> None:
    """Of the newer one nobody is told "no" for a moment: it is coming all the time."""
    async with resolver(path, server) as (follower, recorder), puppet(path) as it:
        await tell_both(server, it, production(1))
        for revision in (2, 3):
            server.announce(production(revision))
            await it.hear()
            await until(lambda: recorder.coming and recorder.coming[PRODUCTION].revision == revision)  # noqa: B023 waited for
        del recorder.events[:]
        publishing_ = asyncio.ensure_future(server.publish(production(2)))
        assert await it.hear() == "serve production 2"
        it.say("served production 2")
        await publishing_
        assert recorder.events == [("publish", PRODUCTION)]
        assert follower.revisions == {PRODUCTION: 2}
        assert recorder.coming[PRODUCTION].revision == 3
        publishing_ = asyncio.ensure_future(server.publish(production(3)))
        assert await it.hear() == "ready production 3"
        it.say("served production 3")
        await publishing_
        assert (follower.revisions, recorder.coming) == ({PRODUCTION: 3}, {})
        assert server.counts.unconfirmed == 0


async def tell_both(server: FeedServer, it: Puppet, environment: Environment) -> None:
    telling = asyncio.ensure_future(tell(server, environment))
    await it.hear_all(2)
    it.say(f"served {environment.id} {environment.revision}")
    await telling


async def test_what_was_overtaken_is_no_longer_coming(server: FeedServer, path: Path) -> None:
    """Also where the one that comes instead is older: a store restored from a copy."""
    async with resolver(path, server) as (follower, recorder):
        await tell(server, production(7))
        server.announce(production(8))
        await until(lambda: recorder.coming)
        await tell(server, production(3))
        assert (follower.revisions, recorder.coming) == ({PRODUCTION: 3}, {})


async def test_the_same_revision_again(server: FeedServer, path: Path) -> None:
    async with resolver(path, server) as (_, recorder):
        await tell(server, production(4))
        await tell(server, production(4))
        await server.publish(production(4))
        other = replace(build(PRODUCTION, 1, PutService("web")), revision=4)
        await tell(server, other)
        assert recorder.holds(other)
        assert server.counts.unconfirmed == 0


# Who comes and goes


async def test_an_agent_that_is_away_takes_nothing_away(path: Path) -> None:
    async with resolver(path) as (follower, recorder):
        assert (follower.connected, follower.contact) == (False, None)
        async with agent(path, production(), staging()):
            await until(lambda: recorder.is_loaded)
            assert follower.connected
        await until(lambda: not follower.connected)
        assert recorder.holds(production(), staging())
        contact = follower.contact
        assert contact
        await asyncio.sleep(0.05)
        assert (follower.contact, follower.counts.lost_connections) == (contact, 1)
        before = list(recorder.events)
        async with agent(path, loaded=False):
            await until(lambda: follower.connected)
            await asyncio.sleep(0.05)  # time for a wrong "gone"
            assert recorder.events == before


async def test_what_an_agent_does_not_name_when_it_is_back_is_withdrawn(path: Path) -> None:
    newer = apply(production(), [PutService("web")], NOW)
    async with resolver(path) as (_, recorder):
        async with agent(path, production(), staging()) as server:
            server.announce(build("never", 3))
            await until(lambda: recorder.is_loaded and len(recorder.coming) == 1)
        async with agent(path, loaded=False) as server:
            await until(lambda: server.resolvers)
            await tell(server, newer)
            assert recorder.holds(newer, staging())
            server.loaded()
            await until(lambda: recorder.holds(newer))
            assert not recorder.coming


async def test_a_network_that_is_anothers_when_the_agent_is_back(path: Path) -> None:
    """A store that was flushed meanwhile gives networks anew; what had it before is gone, if not by name."""
    heir = build("heir", 1, PutService("web"))
    async with resolver(path) as (follower, recorder):
        async with agent(path, production()):
            await until(lambda: recorder.is_loaded)
        async with agent(path, heir):
            await until(lambda: recorder.holds(heir))
            assert not follower.quarantined


async def test_a_connection_that_is_cut_is_made_again(server: FeedServer, path: Path) -> None:
    async with resolver(path, server) as (follower, recorder):
        await tell(server, production())
        server.announce(staging())
        await until(lambda: recorder.coming)
        for session in server._sessions:
            session.writer.transport.abort()
        await until(lambda: follower.counts.lost_connections and follower.connected)
        await tell(server, staging())
        assert recorder.holds(production(), staging())
        assert not recorder.coming


async def test_a_resolver_that_comes_late_gets_all(server: FeedServer, path: Path) -> None:
    await tell(server, production(), staging())
    server.loaded()
    async with AsyncExitStack() as stack:
        recorders = [(await stack.enter_async_context(resolver(path, server)))[1] for _ in range(3)]
        await until(lambda: all(recorder.is_loaded for recorder in recorders))
        assert all(recorder.holds(production(), staging()) for recorder in recorders)
        await tell(server, production(2))
        assert all(recorder.holds(production(2), staging()) for recorder in recorders)
        assert server.resolvers == 3


async def test_a_former_name_ends_in_time(server: FeedServer, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following_module, "FORMER_NAMES_EVERY", 0.01)
    now = NOW / 1000
    renamed = build(PRODUCTION, 1, PutService("old"), PutService("old", rename="new", overlap=60))
    old = Name.parse("old.railway.internal")
    async with resolver(path, server, lambda: now) as (_, recorder):
        await tell(server, renamed)
        assert recorder.zones[PRODUCTION].find(old)
        now += 61
        await until(lambda: not recorder.zones[PRODUCTION].find(old))


# Who is not well


@pytest.mark.parametrize("spoil", ["document", "identity"])
async def test_a_bad_document_is_quarantined(
    server: FeedServer, path: Path, spoil: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The agent and the resolver may be of two releases."""
    async with resolver(path, server) as (follower, recorder):
        await tell(server, production(1), staging())
        with monkeypatch.context() as patch:
            bad = b'{"id": "production"}' if spoil == "document" else document.encode(staging())
            patch.setattr(feed_module, "document", SimpleNamespace(encode=lambda _: bad))
            began = time.monotonic()
            await tell(server, production(2))
            assert time.monotonic() - began < feed_module.SERVE_DEADLINE / 2  # it says so, and is not waited for
        assert recorder.holds(production(1), staging())
        assert list(follower.quarantined) == [PRODUCTION]
        assert server.counts.unconfirmed == 1
        assert {record.message for record in caplog.records} >= {"document_quarantined", "resolver_refuses"}
        await tell(server, production(3))
        assert recorder.holds(production(3), staging())
        assert not follower.quarantined


async def test_a_resolver_that_hangs_is_cut_off_and_takes_little_memory(
    server: FeedServer, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_module, "SERVE_DEADLINE", 0.05)
    monkeypatch.setattr(feed_module, "PATIENCE", 0.5)
    crowd = build("crowd", 9, PutService("api"), *(PutInstance("api", f"i{number}") for number in range(3000)))
    size = len(document.encode(crowd))
    async with puppet(path), resolver(path, server) as (_, recorder):
        await until(lambda: server.resolvers == 2)
        [hung, _] = server._sessions
        most = 0
        for revision in range(1, 500):
            await tell(server, replace(crowd, revision=revision))
            most = max(most, hung.writer.transport.get_write_buffer_size())
            if server.resolvers == 1:
                break
        assert server.counts.cut_off == 1
        assert revision > 2
        assert most < 3 * size  # of two lines at a time, whatever the number of commits
        unconfirmed = server.counts.unconfirmed
        monkeypatch.setattr(feed_module, "SERVE_DEADLINE", DEADLINE)
        await tell(server, replace(crowd, revision=1000))
        assert recorder.zones[EnvironmentId("crowd")].revision == 1000
        assert server.counts.unconfirmed == unconfirmed


async def test_one_that_is_slow_but_answers_is_not_cut_off(
    server: FeedServer, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_module, "PATIENCE", 0.3)
    async with puppet(path) as it:
        await until(lambda: server.resolvers)
        telling = asyncio.ensure_future(tell(server, *(build(f"e{number}", number + 1) for number in range(5))))
        for question in [line for line in await it.hear_all(10) if line.startswith("ready")]:
            await asyncio.sleep(0.15)
            it.say(question.replace("ready", "served"))
        await asyncio.sleep(0.4)
        assert (server.resolvers, server.counts.cut_off) == (1, 0)
        await telling


@pytest.mark.parametrize(
    "line", ["served production 2", "served staging 1", "served", "good morning", "", "\xff", "x" * 100_000]
)
async def test_who_does_not_keep_to_the_format_is_cut_off(server: FeedServer, path: Path, line: str) -> None:
    await tell(server, production())
    async with puppet(path) as it:
        await it.hear_all(2)
        it.say(line)
        assert await it.hear() == ""
        await until(lambda: not server.resolvers)
        assert server.counts.cut_off == 1


async def test_who_speaks_unasked_is_cut_off(server: FeedServer, path: Path) -> None:
    async with puppet(path) as it:
        it.say("served production 1")
        assert await it.hear() == ""


@pytest.mark.parametrize("line", ["hello", "coming production", "loaded now", "ready x 1 {}"])
async def test_an_agent_that_does_not_keep_to_the_format_is_left(
    path: Path, line: str, caplog: pytest.LogCaptureFixture
) -> None:
    path.parent.mkdir()
    begun = ended = 0

    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal begun, ended
        begun += 1
        writer.write(line.encode() + b"\n")
        await reader.read()
        writer.close()
        ended += 1

    babbler = await asyncio.start_unix_server(babble, path)
    async with resolver(path) as (_, recorder):
        await until(lambda: begun > 1)
        assert not recorder.events
    babbler.close()
    await until(lambda: ended == begun)
    reasons = [getattr(record, "reason", "") for record in caplog.records if record.message == "agent_unavailable"]
    assert re.match("it says what is not known here", reasons[0])


# The socket


def is_there(path: Path) -> bool:
    return path.exists()


@pytest.mark.parametrize("group", [None, GROUP])
async def test_the_socket_is_for_its_owner_and_one_group(path: Path, group: str | None) -> None:
    server = FeedServer(path, group)
    await server.start()
    found = os.stat(path)
    assert stat.S_ISSOCK(found.st_mode)
    assert stat.S_IMODE(found.st_mode) == 0o660
    assert found.st_gid == os.getgid()
    await server.stop()
    assert not is_there(path)


async def test_the_group_that_is_asked_for_gets_it(path: Path) -> None:
    other = next((group for group in grp.getgrall() if group.gr_gid != os.getgid()), None)
    if os.getuid() or not other:
        pytest.skip("only root can give a file to a group that it is not in")
    server = FeedServer(path, other.gr_name)
    await server.start()
    assert os.stat(path).st_gid == other.gr_gid
    await server.stop()


async def test_a_group_that_does_not_exist(path: Path) -> None:
    with pytest.raises(FeedUnusable, match="there is no group 'nosuchgroup': create it"):
        await FeedServer(path, "nosuchgroup").start()
    assert not is_there(path)


async def test_a_socket_that_was_left_over_is_replaced(path: Path) -> None:
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as left_over:
        left_over.bind(str(path))
    async with agent(path, production()), resolver(path) as (_, recorder):
        await until(lambda: recorder.holds(production()))


async def test_another_agent_is_not_pushed_aside(server: FeedServer, path: Path) -> None:
    other = FeedServer(path)
    with pytest.raises(FeedUnusable, match=f"an agent serves {path} already"):
        await other.start()
    await other.stop()
    assert is_there(path)
    async with resolver(path, server) as (_, recorder):
        await tell(server, production())
        await until(lambda: recorder.holds(production()))


async def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FeedUnusable, match=r"cannot listen on .*names\.sock: .*: choose another --agent-dir"):
        await FeedServer(tmp_path / "file" / SOCKET).start()
