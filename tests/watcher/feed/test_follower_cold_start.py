"""A resolver that starts while the agent of its host is away, or says nothing yet: what it served before is served."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.waiting import cancel, until
from tests.watcher.feed.ends import agent, production, publish, resolver, staging
from watcher import keeper as keeping
from watcher.keeper import SnapshotKeeper


@pytest.fixture
def keeper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SnapshotKeeper:
    monkeypatch.setattr(keeping, "EVERY", 0.05)
    return SnapshotKeeper(tmp_path / "resolver.snapshot", "the agent", "0.1.0", 1 << 20, is_bound_to_boot=True)


async def run_once(path: Path, keeper: SnapshotKeeper) -> None:
    """A resolver that has served both environments, and has ended."""
    async with agent(path, production(), staging()), resolver(path) as (follower, recorder):
        task = asyncio.create_task(keeper.run(follower))
        await until(lambda: recorder.is_loaded)
        await until(keeper.path.exists)
        await cancel(task)


async def test_without_the_agent(path: Path, keeper: SnapshotKeeper) -> None:
    await run_once(path, keeper)
    async with resolver(path, snapshots=keeper) as (follower, recorder):
        await until(lambda: ("source_away", "") in recorder.events)
        assert recorder.holds(production(), staging())
        assert [event for event, _ in recorder.events] == ["restored", "publish", "publish", "source_away"]
        assert not follower.connected
        async with agent(path, production(2), staging()):
            await until(lambda: recorder.is_loaded)
            assert recorder.holds(production(2), staging())


async def test_an_agent_that_has_said_some_of_it_is_believed_in_that(path: Path, keeper: SnapshotKeeper) -> None:
    await run_once(path, keeper)
    async with agent(path, production(2), loaded=False) as server, resolver(path, server, snapshots=keeper) as two:
        _, recorder = two
        await until(lambda: ("source_away", "") in recorder.events)
        assert recorder.holds(production(2), staging())


async def test_what_an_agent_has_withdrawn_is_not_restored(
    path: Path, keeper: SnapshotKeeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    await run_once(path, keeper)
    async with agent(path, loaded=False) as server, resolver(path, server, snapshots=keeper) as (_, recorder):
        await publish(server, staging())
        server.withdraw(staging().id)
        await until(lambda: ("withdraw", staging().id) in recorder.events)
        await until(lambda: ("source_away", "") in recorder.events)
        assert recorder.holds(production())


async def test_with_the_agent_there_nothing_of_the_snapshot_is_served(path: Path, keeper: SnapshotKeeper) -> None:
    await run_once(path, keeper)
    async with agent(path, production()) as server, resolver(path, server, snapshots=keeper) as (_, recorder):
        await until(lambda: recorder.is_loaded)
        await asyncio.sleep(keeping.SOON + 0.2)  # time for a wrong restoration
        assert recorder.holds(production())
        assert "restored" not in {event for event, _ in recorder.events}


async def test_after_a_boot_the_routes_are_gone(
    path: Path, keeper: SnapshotKeeper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No name before its path: the agent makes the routes again, from a snapshot of its own."""
    await run_once(path, keeper)
    (tmp_path / "boot_id").write_text("another\n")
    monkeypatch.setattr(keeping, "BOOT_ID", tmp_path / "boot_id")
    async with resolver(path, snapshots=keeper) as (_, recorder):
        await until(lambda: ("source_away", "") in recorder.events)
        assert recorder.holds()
        assert "earlier boot" in keeper.problem
