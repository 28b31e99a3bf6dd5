"""When a publication is over, and who may connect; over real sockets."""

from __future__ import annotations

import asyncio
import grp
import os
import socket
import stat
import time
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.waiting import until
from tests.watcher.feed.ends import agent, production, publish, puppet, resolver, staging
from tests.worlds import PRODUCTION
from watcher.feed import server as server_module
from watcher.feed.errors import FeedUnusable
from watcher.feed.protocol import SOCKET
from watcher.feed.server import FeedServer

GROUP = grp.getgrgid(os.getgid()).gr_name


# When a publication is over


async def test_a_publication_is_over_when_all_resolvers_have_replied(server: FeedServer, path: Path) -> None:
    async with puppet(path) as one, puppet(path) as other:
        await until(lambda: server.resolvers == 2)
        server.announce(production())
        publishing_ = asyncio.ensure_future(server.publish(production()))
        for it in (one, other):
            assert await it.receive_all(2) == ["pending production 1", "ready production 1"]
        one.send("served production 1")
        await until(lambda: any(each.last_replied(PRODUCTION) for each in server._connections))
        server.announce(staging())
        for it in (one, other):
            assert await it.receive() == "pending staging 2"  # the server has gone on since
        assert not publishing_.done()
        other.send("served production 1")
        await publishing_
        assert server.counts.unconfirmed == 0


async def test_without_resolvers_a_publication_is_over_at_once(server: FeedServer) -> None:
    began = time.monotonic()
    await publish(server, production(), staging())
    assert time.monotonic() - began < server_module.CONFIRM_DEADLINE / 2
    assert server.counts.unconfirmed == 0


async def test_a_silent_resolver_is_waited_for_until_the_deadline(
    server: FeedServer, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "CONFIRM_DEADLINE", 0.2)
    async with puppet(path), resolver(path, server) as (_, recorder):
        await until(lambda: server.resolvers == 2)
        began = time.monotonic()
        await publish(server, production())
        assert time.monotonic() - began >= 0.2
        assert recorder.holds(production())
        assert server.counts.unconfirmed == 1


async def test_a_resolver_that_disconnects_is_waited_for_no_longer(server: FeedServer, path: Path) -> None:
    async with puppet(path) as it:
        await until(lambda: server.resolvers)
        publishing_ = asyncio.ensure_future(publish(server, production()))
        await it.receive()
    began = time.monotonic()
    await publishing_
    assert time.monotonic() - began < server_module.CONFIRM_DEADLINE / 2
    assert (server.resolvers, server.counts.unconfirmed) == (0, 0)


async def test_a_withdrawal_ends_the_wait_of_a_publication(server: FeedServer, path: Path) -> None:
    async with puppet(path) as it:
        await until(lambda: server.resolvers)
        publishing_ = asyncio.ensure_future(publish(server, production()))
        assert await it.receive_all(2) == ["pending production 1", "ready production 1"]
        server.withdraw(PRODUCTION)
        await publishing_
        assert await it.receive() == "withdrawn production"
        assert server.counts.unconfirmed == 0


async def test_an_environment_that_was_withdrawn_is_not_published(server: FeedServer, path: Path) -> None:
    """The agent publishes when it has made the routes; meanwhile the environment may have been deleted."""
    async with resolver(path, server) as (_, recorder):
        await publish(server, production(), staging())
        server.withdraw(PRODUCTION)
        await server.publish(production())
        await until(lambda: recorder.holds(staging()))
        await publish(server, staging())
        assert recorder.holds(staging())


async def test_a_resolver_that_connects_late_is_sent_everything(server: FeedServer, path: Path) -> None:
    await publish(server, production(), staging())
    server.loaded()
    async with AsyncExitStack() as stack:
        recorders = [(await stack.enter_async_context(resolver(path, server)))[1] for _ in range(3)]
        await until(lambda: all(recorder.is_loaded for recorder in recorders))
        assert all(recorder.holds(production(), staging()) for recorder in recorders)
        await publish(server, production(2))
        assert all(recorder.holds(production(2), staging()) for recorder in recorders)
        assert server.resolvers == 3


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


async def test_the_socket_belongs_to_the_group_that_was_asked_for(path: Path) -> None:
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


async def test_the_socket_of_another_agent_is_not_replaced(server: FeedServer, path: Path) -> None:
    other = FeedServer(path)
    with pytest.raises(FeedUnusable, match=f"an agent serves {path} already"):
        await other.start()
    await other.stop()
    assert is_there(path)
    async with resolver(path, server) as (_, recorder):
        await publish(server, production())
        await until(lambda: recorder.holds(production()))


async def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FeedUnusable, match=r"cannot listen on .*names\.sock: .*: choose another --agent-dir"):
        await FeedServer(tmp_path / "file" / SOCKET).start()
