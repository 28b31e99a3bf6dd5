"""The agent's end of a session: what is published of what a control plane says, and what is held on to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Iterable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
from msgspec import Raw
from msgspec.structs import replace

from tests.agent.worlds import environment, host
from tests.revisions import revisions
from tests.waiting import cancel, until
from tests.watcher.harness import Recorder
from tests.worlds import PLATFORM
from watcher import keeper as keeping
from watcher.guard import Guard, GuardPolicy, Kind
from watcher.keeper import SnapshotKeeper
from watcher.session import follower as module
from watcher.session.errors import SessionBroken
from watcher.session.follower import SessionFollower
from watcher.session.protocol import (
    Confirmed,
    EnvironmentChanged,
    EnvironmentGone,
    EnvironmentIs,
    EnvironmentUnreadable,
    HostGone,
    HostIs,
    HostsAre,
    HostUnreadable,
    Loaded,
    Stale,
    Update,
)
from watcher.session.view import SessionView
from zones import document, parts
from zones.model import Environment
from zones.names import EnvironmentId

ONE, TWO, THREE, FOUR = (environment(number, [1, 2], revision=5) for number in (1, 2, 3, 4))
EPOCH = "e1"


def named(*environments: Environment) -> list[Update]:
    return [EnvironmentIs(one.id, one.revision, Raw(document.encode(one))) for one in environments]


def session(
    *environments: Environment, hosts: Iterable[int] = (1, 2), epoch: str | None = EPOCH, stale: float | None = None
) -> list[Update]:
    """All that a control plane says at the beginning of a session."""
    known: list[Update] = [HostIs(host(number)) for number in hosts]
    return [*known, HostsAre(7), *([Stale(stale)] if stale else []), *named(*environments), Loaded(epoch)]


class World:
    """A follower of ``view``, and what it has published."""

    def __init__(self, keeper: SnapshotKeeper | None = None, policy: GuardPolicy | None = None) -> None:
        self.view, self.recorder, self.confirmed = SessionView(), Recorder(), 0
        self.gone: set[EnvironmentId] = set()  # those of which the control plane says so when it is asked
        self.follower = SessionFollower(
            self.view,
            PLATFORM,
            self.recorder,
            self.recorder.take_hosts,
            self.ask_gone,
            on_confirmed=self.note_confirmed,
            snapshots=keeper,
            guard=Guard(policy or GuardPolicy()),
        )

    async def ask_gone(self, ids: Collection[EnvironmentId]) -> Collection[EnvironmentId]:
        return self.gone & set(ids)

    def note_confirmed(self) -> None:
        self.confirmed += 1

    def say(self, *updates: Update) -> None:
        for update in updates:
            self.view.take(update)

    def begin(self, *updates: Update) -> None:
        """A new session, after the last one, if there was one."""
        self.view.end()
        self.view.begin()
        self.say(*updates)

    @property
    def hosts(self) -> set[str]:
        return set(self.recorder.hosts[-1].hosts)


@asynccontextmanager
async def following(keeper: SnapshotKeeper | None = None, policy: GuardPolicy | None = None) -> AsyncIterator[World]:
    world = World(keeper, policy)
    task = asyncio.create_task(world.follower.run())
    try:
        yield world
        assert not task.done(), task.exception()
    finally:
        await cancel(task)


# Following


async def test_hosts_come_before_the_environments_that_need_them_and_loaded_comes_last() -> None:
    async with following() as world:
        world.begin(*session(ONE, TWO))
        await until(lambda: world.recorder.is_loaded)
        assert world.recorder.holds(ONE, TWO)
        assert [event for event, _ in world.recorder.events] == ["hosts", "publish", "publish", "loaded"]
        assert (world.hosts, world.recorder.hosts[-1].revision) == ({"h1", "h2"}, 7)
        assert world.follower.connected


async def test_nothing_is_published_before_all_is_named() -> None:
    async with following() as world:
        world.begin(*session(ONE)[:-1])
        await until(lambda: not world.view._wake.is_set())
        assert world.recorder.events == []
        world.say(Loaded(EPOCH))
        await until(lambda: world.recorder.holds(ONE))


async def test_changes_are_followed_and_the_newest_of_several_is_taken() -> None:
    async with following() as world:
        world.begin(*session(ONE))
        await until(lambda: world.recorder.is_loaded)
        newer = [replace(ONE, revision=revision) for revision in range(6, 20)]
        world.say(HostIs(host(3)), *named(*newer, TWO))
        await until(lambda: world.recorder.holds(newer[-1], TWO))
        assert world.hosts == {"h1", "h2", "h3"}
        assert len([event for event in world.recorder.events if event == ("publish", ONE.id)]) == 2
        world.say(EnvironmentGone(TWO.id), HostGone("h3"))
        await until(lambda: world.recorder.holds(newer[-1]))
        assert world.hosts == {"h1", "h2"}


def serves(world: World, environment: Environment) -> bool:
    return world.recorder.zones[environment.id].environment == environment


def changed(before: Environment, after: Environment, digest: str = "") -> EnvironmentChanged:
    written = Raw(parts.encode(parts.difference(before, after)))
    return EnvironmentChanged(after.id, before.revision, after.revision, written, digest or f"d{after.revision}")


async def test_differences_are_applied_in_their_order_however_many_come_at_once() -> None:
    async with following() as world:
        world.begin(*session(ONE))
        await until(lambda: world.recorder.is_loaded)
        newest = ONE
        for number, newer in enumerate(revisions(ONE, 11, 200)):
            world.say(changed(newest, newer))
            newest = newer
            if number % 5 == 0:
                await until(partial(serves, world, newest))
        await until(partial(serves, world, newest))
        published = sum(event == ("publish", ONE.id) for event in world.recorder.events)
        assert published < 100, "those that come at once are one publication"
        assert world.follower.snapshot_contents().environments[ONE.id] == (f"d{newest.revision}", newest)
        world.begin(*session(replace(newest, revision=newest.revision + 1)))
        await until(lambda: world.recorder.zones[ONE.id].revision == newest.revision + 1)


async def test_what_is_said_before_all_is_loaded_is_applied_to_the_document() -> None:
    newer, newest = revisions(ONE, 3, 2)
    async with following() as world:
        world.begin(*session(ONE)[:-1], changed(ONE, newer), changed(newer, newest), Loaded(EPOCH))
        await until(lambda: world.recorder.is_loaded)
        assert world.recorder.zones[ONE.id].environment == newest
        assert [event for event, _ in world.recorder.events].count("publish") == 1


async def test_a_bad_difference_leaves_what_was_before_it_until_all_of_it_is_named_again() -> None:
    newer, newest = revisions(ONE, 3, 2)
    bad = EnvironmentChanged(ONE.id, ONE.revision, newer.revision, Raw(b'{"id": "e1", "before": 5}'), "d6")
    async with following() as world:
        world.begin(*session(ONE))
        await until(lambda: world.recorder.is_loaded)
        world.say(bad, changed(newer, newest))
        await until(lambda: world.follower.quarantined)
        assert world.recorder.holds(ONE)
        world.say(*named(newest))
        await until(lambda: not world.follower.quarantined)
        assert world.recorder.zones[ONE.id].environment == newest


@pytest.mark.parametrize("before", [replace(ONE, revision=4), TWO])
def test_a_change_of_what_was_not_named_ends_the_session(before: Environment) -> None:
    world = World()
    world.begin(*session(ONE))
    with pytest.raises(SessionBroken, match="cannot be taken"):
        world.say(changed(before, replace(before, revision=9)))


async def test_a_document_that_cannot_be_used_leaves_the_one_before_it_and_is_reported() -> None:
    async with following() as world:
        world.begin(*session(ONE, TWO))
        await until(lambda: world.recorder.is_loaded)
        world.say(EnvironmentIs(ONE.id, 6, Raw(b'{"id": "e1"}')), EnvironmentUnreadable(TWO.id, "it is cut short"))
        await until(lambda: len(world.follower.quarantined) == 2)
        assert world.recorder.holds(ONE, TWO)
        world.say(*named(replace(ONE, revision=7), replace(TWO, revision=7)))
        await until(lambda: not world.follower.quarantined)
        assert world.recorder.holds(replace(ONE, revision=7), replace(TWO, revision=7))


async def test_an_unreadable_host_stays_as_it_was() -> None:
    async with following() as world:
        world.begin(*session(ONE))
        await until(lambda: world.recorder.is_loaded)
        world.say(HostUnreadable("h2", "no host"), HostsAre(8))
        await until(lambda: world.recorder.hosts[-1].revision == 8)
        assert world.hosts == {"h1", "h2"}
        assert world.recorder.hosts[-1].unreadable == {"h2": "no host"}


# A session that begins anew


async def test_what_was_published_stays_without_a_session() -> None:
    async with following() as world:
        world.begin(*session(ONE))
        await until(lambda: world.recorder.is_loaded)
        world.view.end()
        await until(lambda: not world.follower.connected)
        assert world.recorder.holds(ONE)


async def test_what_went_while_there_was_no_session_is_withdrawn_when_the_control_plane_says_so() -> None:
    async with following() as world:
        world.begin(*session(ONE, TWO))
        await until(lambda: world.recorder.is_loaded)
        world.gone = {ONE.id, TWO.id}
        world.begin(*session(hosts=(1,)))
        await until(lambda: world.recorder.holds())
        await until(lambda: world.hosts == {"h1"})
        assert not world.follower.guard.held


async def test_one_that_is_merely_missing_stays_with_its_hosts_and_is_asked_for_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "ASK_EVERY", 0.0)
    async with following() as world:
        world.begin(*session(ONE, TWO, THREE, FOUR))
        await until(lambda: world.recorder.is_loaded)
        world.begin(*session(ONE, TWO, replace(THREE, revision=6), hosts=(1,)))
        await until(lambda: world.recorder.holds(ONE, TWO, replace(THREE, revision=6), FOUR))
        await until(lambda: world.follower.guard.holds_back(Kind.ENVIRONMENTS, FOUR.id))
        assert world.hosts == {"h1", "h2"}
        world.gone = {FOUR.id}
        await until(lambda: world.recorder.holds(ONE, TWO, replace(THREE, revision=6)))
        assert not world.follower.guard.holds_back(Kind.ENVIRONMENTS)


async def test_a_control_plane_that_names_nothing_any_more_takes_nothing_away_until_that_is_confirmed() -> None:
    async with following() as world:
        world.begin(*session(ONE, TWO))
        await until(lambda: world.recorder.is_loaded)
        world.begin(*session(hosts=()))
        await until(lambda: world.follower.guard.holds_back(Kind.ENVIRONMENTS))
        assert world.recorder.holds(ONE, TWO)
        assert world.hosts == {"h1", "h2"}
        assert any("environments have vanished" in text for text in world.follower.held)
        world.say(Confirmed())
        await until(lambda: world.confirmed == 1)
        assert world.recorder.holds()
        assert world.hosts == set()
        assert world.follower.held == ()


async def test_what_is_held_is_let_go_when_it_is_named_again() -> None:
    async with following() as world:
        world.begin(*session(ONE, TWO))
        await until(lambda: world.recorder.is_loaded)
        world.begin(*session(hosts=()))
        await until(lambda: world.follower.guard.held)
        world.say(HostIs(host(1)), HostIs(host(2)), *named(ONE, TWO))
        await until(lambda: not world.follower.guard.held)
        assert world.recorder.holds(ONE, TWO)


async def test_what_is_held_goes_by_a_word_of_its_own() -> None:
    async with following() as world:
        world.begin(*session(ONE, TWO))
        await until(lambda: world.recorder.is_loaded)
        world.begin(*session())
        await until(lambda: world.follower.guard.held)
        world.say(EnvironmentGone(ONE.id))
        await until(lambda: world.recorder.holds(TWO))


async def test_another_data_set_holds_everything_unless_it_has_all_that_is_served() -> None:
    async with following() as world:
        world.begin(*session(ONE, TWO))
        await until(lambda: world.recorder.is_loaded)
        world.begin(*session(replace(ONE, revision=1), THREE, epoch="other"))
        await until(lambda: world.follower.guard.holds_back(Kind.DATA_SET))
        assert world.recorder.holds(ONE, TWO)
        world.say(*named(replace(THREE, revision=9)))
        await until(lambda: not world.view._wake.is_set())
        assert world.recorder.holds(ONE, TWO)
        world.begin(*session(replace(ONE, revision=6), TWO, THREE, epoch="other"))
        await until(lambda: world.recorder.holds(replace(ONE, revision=6), TWO, THREE))
        assert not world.follower.guard.held


async def test_what_was_held_long_enough_goes() -> None:
    async with following(policy=GuardPolicy(release_after=0.5)) as world:
        world.begin(*session(ONE, TWO))
        await until(lambda: world.recorder.is_loaded)
        world.begin(*session())
        await until(lambda: world.follower.guard.held)
        await until(lambda: world.recorder.holds())
        assert not world.follower.guard.held


async def test_a_control_plane_without_its_store_takes_nothing_away_and_nothing_back() -> None:
    async with following() as world:
        world.begin(*session(ONE, TWO, THREE, FOUR))
        await until(lambda: world.recorder.is_loaded)
        newer = replace(ONE, revision=9)
        world.begin(*session(newer, replace(TWO, revision=4), THREE, hosts=(1,), stale=1000.0))
        await until(lambda: world.recorder.holds(newer, TWO, THREE, FOUR))
        assert world.hosts == {"h1", "h2"}
        assert not world.follower.connected
        world.gone = {FOUR.id}
        world.say(Stale(None))
        await until(lambda: world.recorder.holds(newer, replace(TWO, revision=4), THREE))
        assert world.follower.connected


# The start


@pytest.fixture
def keeper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SnapshotKeeper:
    monkeypatch.setattr(keeping, "EVERY", 0.05)
    return SnapshotKeeper(tmp_path / "agent.snapshot", "the control plane", "0.1.0", 1 << 20)


async def run_once(keeper: SnapshotKeeper, *environments: Environment) -> None:
    """An agent that has applied ``environments``, and has ended."""
    async with following(keeper) as world:
        task = asyncio.create_task(keeper.run(world.follower))
        world.begin(*session(*environments))
        await until(lambda: world.recorder.is_loaded)
        await until(keeper.path.exists)
        await cancel(task)


async def test_without_a_control_plane_the_snapshot_is_served(keeper: SnapshotKeeper) -> None:
    await run_once(keeper, ONE, TWO)
    async with following(keeper) as world:
        await until(lambda: ("source_away", "") in world.recorder.events)
        assert world.recorder.holds(ONE, TWO)
        assert [event for event, _ in world.recorder.events] == [
            "restored", "hosts", "publish", "publish", "source_away",
        ]  # fmt: skip
        world.begin(*session(replace(ONE, revision=6), TWO))
        await until(lambda: world.recorder.is_loaded)
        assert world.recorder.holds(replace(ONE, revision=6), TWO)


async def test_a_control_plane_that_has_lost_what_the_snapshot_has_is_judged_by_it(keeper: SnapshotKeeper) -> None:
    await run_once(keeper, ONE, TWO)
    async with following(keeper) as world:
        world.begin(*session(epoch=None))
        await until(lambda: world.follower.guard.holds_back(Kind.DATA_SET))
        assert world.recorder.holds(ONE, TWO)
        assert ("source_away", "") in world.recorder.events


async def test_where_the_control_plane_names_all_of_it_nothing_of_the_snapshot_is_served(
    keeper: SnapshotKeeper,
) -> None:
    await run_once(keeper, ONE, TWO)
    async with following(keeper) as world:
        world.begin(*session(ONE, TWO, THREE))
        await until(lambda: world.recorder.is_loaded)
        assert not {"restored", "source_away"} & {event for event, _ in world.recorder.events}


async def test_a_first_control_plane_without_its_store_counts_as_a_snapshot() -> None:
    async with following() as world:
        world.begin(*session(ONE, stale=1234.0))
        await until(lambda: world.recorder.events[-1:] == [("source_away", "")] and world.recorder.zones)
        assert (world.recorder.restored_at, world.recorder.is_loaded) == (1234.0, False)
        world.say(Stale(None))
        await until(lambda: world.recorder.is_loaded)
        assert world.recorder.holds(ONE)
