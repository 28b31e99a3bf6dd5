"""The resolver's end of the feed, over real sockets."""

from __future__ import annotations

import asyncio
import re
import socket
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.revisions import INSTANCES, SERVICES, revisions
from tests.waiting import DEADLINE, until
from tests.watcher.feed.ends import agent, production, publish, resolver, staging
from tests.worlds import NOW, PLATFORM, PRODUCTION, STAGING, build
from watcher.feed import connection as connection_module
from watcher.feed import follower as follower_module
from watcher.feed import protocol
from watcher.feed import server as server_module
from watcher.feed.connection import FeedCounts
from watcher.feed.server import FeedServer
from watcher.guard import GuardPolicy, Kind
from zones import document
from zones.edits import PutInstance, PutService, apply
from zones.names import EnvironmentId, Name
from zones.zone import Zone


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A resolver that works is waited for, however slow the machine is."""
    monkeypatch.setattr(server_module, "CONFIRM_DEADLINE", DEADLINE)


def server_revisions(server: FeedServer) -> dict[EnvironmentId, int]:
    return {id_: state.ready.revision for id_, state in server.state.environments.items() if state.ready}


async def test_a_follower_announces_publishes_withdraws_and_is_loaded_once(server: FeedServer, path: Path) -> None:
    await publish(server, production())
    async with resolver(path, server) as (follower, recorder):
        await until(lambda: recorder.holds(production()))
        assert not recorder.is_loaded
        server.loaded()
        server.loaded()
        await until(lambda: recorder.is_loaded)
        server.announce(staging())
        await until(lambda: STAGING in recorder.pending)
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
        assert server.counts == FeedCounts()


# Connections that are lost


async def test_what_was_published_stays_while_the_agent_is_away(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tries, connect = list[Path](), follower_module._connected

    def counted(path: Path) -> socket.socket:
        tries.append(path)
        return connect(path)

    monkeypatch.setattr(follower_module, "_connected", counted)
    async with resolver(path) as (follower, recorder):
        assert (follower.connected, follower.last_contact) == (False, None)
        async with agent(path, production(), staging()):
            await until(lambda: recorder.is_loaded)
            assert follower.connected
        await until(lambda: not follower.connected)
        assert recorder.holds(production(), staging())
        contact = follower.last_contact
        assert contact
        assert follower.counts.lost_connections == 1
        tries.clear()
        await until(lambda: len(tries) >= 2)
        assert (follower.last_contact, follower.counts.lost_connections) == (contact, 1)
        before = list(recorder.events)
        async with agent(path, loaded=False) as server:
            await until(lambda: follower.connected)
            await publish(server, build("later", 3))
            await until(lambda: "later" in recorder.zones)
            assert recorder.events == [*before, ("announce", "later"), ("publish", "later")], "nothing is withdrawn"


async def test_what_comes_by_differences_is_what_comes_whole(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever of them are pending, published together, or left out, as to a resolver that is slow."""
    taken: list[object] = []

    def decode(line: bytes) -> protocol.Update:
        taken.append(found := protocol.decode_update(line))
        return found

    monkeypatch.setattr(follower_module, "decode_update", decode)
    async with resolver(path) as (follower, recorder), agent(path, production()) as server:
        await until(lambda: recorder.is_loaded)
        with monkeypatch.context() as patched:
            patched.setattr(follower_module, "own_address", lambda: b"")  # as one of an earlier release
            async with resolver(path, server) as (other, older):
                for number, newer in enumerate(revisions(production(), 7, 120)):
                    server.announce(newer)
                    if number % 3:
                        await server.publish(newer)
                        assert recorder.zones[PRODUCTION].environment == newer
                        assert older.zones[PRODUCTION].environment == newer
                        assert names(recorder.zones[PRODUCTION]) == names(older.zones[PRODUCTION])
                assert +Counter(follower.instances) == +Counter(other.instances)
                assert follower.stuck_starting == other.stuck_starting
        assert follower.counts.lost_connections == 0
        assert Counter(type(one).__name__ for one in taken)["Change"] > 60


def names(zone: Zone) -> dict[Name, object]:
    """What ``zone`` has at each name that a revision of the test may have."""
    services = [PLATFORM.apex.child(service) for service in SERVICES]
    found = [*services, *(service.child(instance) for service in services for instance in INSTANCES)]
    found += [service.child("all") for service in services]
    return {name: zone.find(name) for name in (*found, *(PLATFORM.apex.child(f"r{number}") for number in range(3)))}


async def test_a_change_of_what_is_not_known_ends_the_connection_and_the_next_one_names_all(path: Path) -> None:
    newer = apply(production(), [PutInstance("api", "a2")], NOW)
    async with agent(path, production()) as server, resolver(path, server) as (follower, recorder):
        await until(lambda: recorder.is_loaded)
        follower._newest.clear()
        await publish(server, newer)
        await until(lambda: follower.counts.lost_connections == 1 and recorder.holds(newer))
        assert "nothing is known" in str(follower.reason) or follower.connected


async def test_an_agent_that_comes_back_with_an_empty_view_takes_nothing_away(path: Path) -> None:
    third = build("third", 3)
    async with resolver(path) as (follower, recorder):
        async with agent(path, production(), staging(), third):
            await until(lambda: recorder.is_loaded)
        async with agent(path) as server:
            await until(lambda: follower.guard.held)
            assert recorder.holds(production(), staging(), third)
            await publish(server, production(), staging())
            server.withdraw(STAGING)  # a word of its own
            await until(lambda: recorder.holds(production(), third))
            assert [one.names for one in follower.guard.held] == [("third",)]
            server.confirm()
            await until(lambda: recorder.holds(production()))
            assert not follower.guard.held
        assert follower.guard.holds == {Kind.ENVIRONMENTS: 1}


async def test_a_resolver_that_was_away_during_a_confirmation_follows_it_when_it_comes_back(path: Path) -> None:
    elsewhere = path.with_name("later.sock")
    async with resolver(path) as (follower, recorder):
        async with agent(path, production(), staging(), build("third", 3)):
            await until(lambda: recorder.is_loaded)
        async with agent(elsewhere, production()) as server:
            server.confirm()
            elsewhere.rename(path)  # from now on the resolver finds it
            await until(lambda: recorder.holds(production()))
            assert not follower.guard.held


async def test_what_an_agent_does_not_name_goes_after_the_time_that_is_set(path: Path) -> None:
    async with resolver(path) as (follower, recorder):
        follower.guard.policy = GuardPolicy(release_after=0.001)
        async with agent(path, production(), staging()):
            await until(lambda: recorder.is_loaded)
        async with agent(path):
            await until(lambda: recorder.holds())
            assert follower.guard.holds == {Kind.ENVIRONMENTS: 1}


async def test_what_an_agent_does_not_name_when_it_is_back_is_withdrawn(path: Path) -> None:
    newer = apply(production(), [PutService("web")], NOW)
    async with resolver(path) as (_, recorder):
        async with agent(path, production(), staging()) as server:
            server.announce(build("never", 3))
            await until(lambda: recorder.is_loaded and len(recorder.pending) == 1)
        async with agent(path, loaded=False) as server:
            await until(lambda: server.resolvers)
            await publish(server, newer)
            assert recorder.holds(newer, staging())
            server.loaded()
            await until(lambda: recorder.holds(newer))
            assert not recorder.pending


async def test_a_network_that_has_another_owner_when_the_agent_is_back(path: Path) -> None:
    """A store that was flushed gives its networks to new environments. The old one is withdrawn unnamed."""
    heir = build("heir", 1, PutService("web"))
    async with resolver(path) as (follower, recorder):
        async with agent(path, production()):
            await until(lambda: recorder.is_loaded)
        async with agent(path, heir):
            await until(lambda: recorder.holds(heir))
            assert not follower.quarantined


async def test_a_connection_that_is_cut_is_made_again(server: FeedServer, path: Path) -> None:
    async with resolver(path, server) as (follower, recorder):
        await publish(server, production())
        server.announce(staging())
        await until(lambda: recorder.pending)
        cut = set(server._connections)
        for connection in cut:
            connection.writer.transport.abort()
        # The follower is connected before the agent has taken the connection: until then nobody is waited for.
        await until(lambda: follower.counts.lost_connections and server._connections - cut)
        await until(lambda: not server._connections & cut)
        await publish(server, staging())
        assert recorder.holds(production(), staging())
        assert not recorder.pending


# Time and faults


async def test_a_former_name_ends_in_time(server: FeedServer, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follower_module, "FORMER_NAMES_EVERY", 0.01)
    now = NOW / 1000
    renamed = build(PRODUCTION, 1, PutService("old"), PutService("old", rename="new", overlap=60))
    old = Name.parse("old.railway.internal")
    async with resolver(path, server, lambda: now) as (_, recorder):
        await publish(server, renamed)
        assert recorder.zones[PRODUCTION].find(old)
        now += 61
        await until(lambda: not recorder.zones[PRODUCTION].find(old))


async def test_former_names_end_by_the_stores_clock_though_this_hosts_is_wrong(
    server: FeedServer, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follower_module, "FORMER_NAMES_EVERY", 0.01)
    ahead = 86_400.0
    renamed = build(PRODUCTION, 1, PutService("old"), PutService("old", rename="new", overlap=60))
    old = Name.parse("old.railway.internal")
    async with resolver(path, server, lambda: NOW / 1000 + ahead) as (_, recorder):
        await publish(server, renamed)
        assert not recorder.zones[PRODUCTION].find(old)
        server.set_ahead(ahead)
        await until(lambda: recorder.zones[PRODUCTION].find(old) is not None)
        ahead = 0.0
        server.set_ahead(1.0)  # as much as nothing
        await until(lambda: server.state.ahead == 0 and recorder.zones[PRODUCTION].find(old) is not None)
        ahead = 61.0
        await until(lambda: recorder.zones[PRODUCTION].find(old) is None)


async def test_a_resolver_that_comes_late_hears_of_the_clock_too(server: FeedServer, path: Path) -> None:
    renamed = build(PRODUCTION, 1, PutService("old"), PutService("old", rename="new", overlap=60))
    old = Name.parse("old.railway.internal")
    server.set_ahead(-86_400.0)
    async with resolver(path, server, lambda: NOW / 1000 - 86_400 + 61) as (_, recorder):
        await publish(server, renamed)
        assert recorder.zones[PRODUCTION].find(old) is None


@pytest.mark.parametrize("spoil", ["document", "identity"])
async def test_a_bad_document_is_quarantined(
    server: FeedServer, path: Path, spoil: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The agent and the resolver may be of two releases."""
    async with resolver(path, server) as (follower, recorder):
        await publish(server, production(1), staging())
        with monkeypatch.context() as patch:
            bad = b'{"id": "production"}' if spoil == "document" else document.encode(staging())
            patch.setattr(connection_module, "document", SimpleNamespace(encode=lambda _: bad))
            patch.setattr(connection_module, "parts", SimpleNamespace(encode=lambda _: bad, difference=lambda *_: None))
            began = time.monotonic()
            await publish(server, production(2))
            assert time.monotonic() - began < server_module.CONFIRM_DEADLINE / 2  # it says so, and is not waited for
        assert recorder.holds(production(1), staging())
        assert list(follower.quarantined) == [PRODUCTION]
        assert server.counts.unconfirmed == 1
        assert {record.message for record in caplog.records} >= {"document_quarantined", "resolver_refuses"}
        await publish(server, production(3))
        assert recorder.holds(production(3), staging())
        assert not follower.quarantined


@pytest.mark.parametrize("line", ["hello", "pending production", "loaded now", "ready x 1 {}"])
async def test_an_agent_that_breaks_the_protocol_is_disconnected(
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
    assert re.match("the agent sent a message that is not known here", reasons[0])
