"""Keeping a snapshot: when it is written, when it is read, and what becomes known of that.

open      at the start, once                              ─►  Snapshot, or None and a line in the log
run       every few seconds, if something has changed     ─►  a new snapshot, written in a thread
restore   the snapshot into what is served, in slices, for the time until the source answers
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from support.breaks import Breaks
from support.files import remove_partial
from watcher.errors import SnapshotError, SnapshotTooLarge
from watcher.publisher import ServedZones
from watcher.snapshot import (
    Contents,
    Header,
    Snapshot,
    confirm_snapshot,
    open_snapshot,
    write_snapshot,
)
from zones.names import EnvironmentId

SOON = 0.5  # seconds in which a source that is there has answered; the snapshot is read meanwhile
EVERY = 5.0  # seconds between two snapshots at least; so much may be missing in one after a crash
SHARE = 20  # writing takes at most one twentieth of the time of a core, however large the snapshot is
LONGEST_LAST = 2.0  # seconds; where a snapshot takes longer, none is written as the process ends, which must end soon
READ_OCTETS = 1 << 20  # of documents that are read at once
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

log = logging.getLogger(__name__)


class KeepsZones(Protocol):
    """A `Watcher` or a `Follower`: what it serves can be kept."""

    @property
    def snapshot_mark(self) -> Hashable | None:
        """Something that differs after each change of the contents. None: they are not all that there is."""

    @property
    def connected(self) -> bool:
        """Whether the source has just confirmed that all is current."""

    def snapshot_contents(self) -> Contents:
        """What is served now."""


@dataclass(slots=True)
class SnapshotKeeper:
    """Keeps the snapshot of one process."""

    path: Path
    """Where it lies."""
    source: str
    """What it is a snapshot of, in words; one of another source is not used."""
    release: str
    """The release of this process."""
    limit: int
    """The octets that a snapshot may have."""
    is_bound_to_boot: bool = False
    """Whether one is used only in the boot that wrote it."""
    problem: str = ""
    """Why the last attempt to write or read one has failed; empty if it has not."""
    failures: int = 0
    """How many attempts have failed."""
    octets: int = 0
    """The size of the snapshot on disk; 0 while there is none of this process."""
    confirmed: float | None = None
    """When its contents were last known to be current, in seconds of Unix time; None before that is known."""
    _written: Hashable | None = field(default=None)  # the mark of what is on disk
    _seconds: float = 0.0  # how long the last one took to be written
    _next: float = 0.0  # the time of the next snapshot at the earliest, in seconds of time.monotonic

    async def open(self) -> Snapshot | None:
        """The snapshot on disk; None if there is none, or if it cannot be used."""
        try:
            snapshot = await asyncio.to_thread(open_snapshot, self.path, self.limit, self._check)
        except SnapshotError as error:
            self._note_failure("snapshot_unusable", error)
            return None
        if snapshot:
            self.octets, self.confirmed = snapshot.octets, snapshot.confirmed
        return snapshot

    async def run(self, zones: KeepsZones) -> None:
        """Keeps a snapshot of ``zones`` until it is cancelled, and then writes the last one."""
        try:
            # Not in a thread: that would go on after a cancellation, and remove the last snapshot while it is written.
            remove_partial(self.path)
            while True:
                await asyncio.sleep(EVERY)
                await self._keep(zones)
        finally:
            # What has changed in the last seconds would be missing after a restart that somebody asked for.
            if self._seconds < LONGEST_LAST and zones.snapshot_mark not in (None, self._written):
                await self._write(zones, is_hurried=True)

    async def _keep(self, zones: KeepsZones) -> None:
        mark = zones.snapshot_mark
        if mark is None:
            return
        if mark != self._written:
            if time.monotonic() >= self._next:
                await self._write(zones)
        elif zones.connected:
            self.confirmed = time.time()
            try:
                await asyncio.to_thread(confirm_snapshot, self.path)
            except OSError:
                self._written = None  # somebody has removed it

    async def _write(self, zones: KeepsZones, *, is_hurried: bool = False) -> None:
        mark, contents, now = zones.snapshot_mark, zones.snapshot_contents(), time.time()
        header = Header(
            source=self.source,
            release=self.release,
            taken=now,
            boot=boot_id() if self.is_bound_to_boot else "",
            epoch=contents.position.epoch,
            change=contents.position.change,
            hosts_revision=contents.hosts.revision if contents.hosts else None,
        )

        def write() -> tuple[int, float]:
            started = time.thread_time()
            octets = write_snapshot(self.path, header, contents, self.limit, is_hurried=is_hurried)
            return octets, time.thread_time() - started

        try:
            started = time.monotonic()
            self.octets, seconds = await asyncio.to_thread(write)
            self._seconds = time.monotonic() - started
        except (OSError, SnapshotTooLarge) as error:
            self._note_failure("snapshot_not_written", error)
            self._next = time.monotonic() + EVERY * SHARE  # it will hardly succeed in a moment
            return
        if self.problem:
            log.info("snapshot_written", extra={"path": str(self.path), "octets": self.octets})
        self._written, self.confirmed, self.problem = mark, now, ""
        self._next = time.monotonic() + SHARE * seconds

    def _check(self, header: Header) -> str:
        if header.source != self.source:
            return f"it is of another source: of {header.source}, and this process follows {self.source}"
        if self.is_bound_to_boot and header.boot != boot_id():
            return "it is of an earlier boot of this host, whose routes are gone"
        return ""

    def _note_failure(self, event: str, error: Exception) -> None:
        reason = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
        self.failures += 1
        if reason != self.problem:  # once, not with every attempt
            log.warning(event, extra={"path": str(self.path), "reason": reason})
        self.problem = reason


async def restore(snapshot: Snapshot, served: ServedZones, is_wanted: Callable[[EnvironmentId], bool]) -> None:
    """Publishes what ``snapshot`` holds, but only what ``is_wanted`` at that moment."""
    breaks = Breaks()
    waiting = list(reversed(snapshot.digests))
    while waiting:
        some: list[EnvironmentId] = []
        octets = 0
        while waiting and octets < READ_OCTETS:
            some.append(waiting.pop())
            octets += snapshot.size(some[-1])
        for id_, found in await asyncio.to_thread(snapshot.read_all, some):
            if is_wanted(id_):
                await restore_one(snapshot, served, id_, found, is_wanted)
            await breaks.take()


async def restore_one(
    snapshot: Snapshot,
    served: ServedZones,
    id_: EnvironmentId,
    read: bytes,
    is_wanted: Callable[[EnvironmentId], bool],
) -> bool:
    """Publishes the document of ``id_`` that is in ``snapshot``; returns whether it is served then."""
    zone = await served.compile(id_, read)
    return zone is not None and is_wanted(id_) and served.publish(zone, snapshot.digests[id_])


def boot_id() -> str:
    """The id of this boot; empty where the kernel does not give one."""
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return ""
