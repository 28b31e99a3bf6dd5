"""The snapshot on disk as a part of a process: what it is of, where it lies, and who keeps it."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from interlock.process.supervise import Part
from interlock.settings.table import AGENT, RESOLVER, Settings
from watcher.feed.follower import Follower
from watcher.keeper import SnapshotKeeper
from watcher.session.follower import SessionFollower
from watcher.watcher import Watcher

SUFFIX = ".snapshot"  # of the file, after the name of the program: programs may share a state directory
MEBIBYTE = 1 << 20


def snapshot_path(program: str, state_dir: Path) -> Path:
    """Where ``program`` keeps its snapshot."""
    return state_dir / f"{program}{SUFFIX}"


def snapshot_keeper(program: str, settings: Settings) -> SnapshotKeeper | None:
    """What keeps the snapshot of ``program``; None where none is to be kept."""
    if not settings.snapshot_limit:
        return None
    has_agent = program == RESOLVER and settings.agent_dir is not None
    return SnapshotKeeper(
        snapshot_path(program, settings.state_dir),
        _source(program, settings),
        version("interlock"),
        settings.snapshot_limit * MEBIBYTE,
        is_bound_to_boot=has_agent,  # what the agent had routes to is not reachable after a boot, until it says so
    )


def remove_snapshot(program: str, settings: Settings) -> None:
    """Removes the snapshot of ``program``, which has ended for good."""
    snapshot_path(program, settings.state_dir).unlink(missing_ok=True)


def snapshot_parts(watcher: Watcher | Follower | SessionFollower) -> tuple[Part, ...]:
    """The part that keeps the snapshot of ``watcher``; none where none is kept."""
    keeper = watcher.snapshots
    if keeper is None:
        return ()

    async def run(ready: Callable[[], None]) -> None:
        ready()
        await keeper.run(watcher)

    return (Part("snapshot", run),)


def _source(program: str, settings: Settings) -> str:
    """What is followed, in words. The URL of the store is no part of it: the same data may move to another address."""
    platform = f"{settings.zone} and {settings.platform_prefix}"
    if program == RESOLVER and settings.agent_dir:
        return f"the agent in {settings.agent_dir}, for {platform}"
    if program == AGENT:
        return f"the control plane's environments for host {settings.host}, for {platform}"
    return f"the store's keys {settings.redis_prefix}*, for {platform}"
