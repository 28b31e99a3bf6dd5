"""The follower: publishes what the agent of this host has a way to, as `feed` tells it. It needs no store.

    coming   ─►  announce(zone)
    ready    ─►  publish(zone)       and the agent is told, which then acknowledges it to the store
    gone     ─►  withdraw(id)
    loaded   ─►  what this connection did not name is withdrawn too

An agent that is away changes nothing: what was published stays. When it is back it tells all anew, and only then is
anything taken away.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from asyncio import IncompleteReadError, LimitOverrunError, StreamReader
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from watcher.errors import FeedBroken
from watcher.publisher import SLICE, Counts, Published, Publisher
from zones import document
from zones.addresses import Platform
from zones.names import EnvironmentId
from zones.zone import Zone

RETRY = 0.25  # seconds; to ask for a socket of this host costs next to nothing
FORMER_NAMES_EVERY = 1.0  # seconds; a former name is answered that much longer at most

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Coming:
    zone: Zone
    digest: str


@dataclass(slots=True)
class Follower:
    """Follows the agent that serves the unix socket ``path`` for ever, in the place of a `Watcher`.

    ``counts.changes`` are the documents that it has told of.
    """

    path: Path
    platform: Platform
    publisher: Publisher
    wall_clock: Callable[[], float] = time.time
    counts: Counts = field(default_factory=Counts)
    connected: bool = False
    _published: Published = field(init=False)
    _coming: dict[EnvironmentId, _Coming] = field(default_factory=dict)
    _named: set[EnvironmentId] = field(default_factory=set)
    _lost_at: float | None = None
    _is_loaded: bool = False
    _reason: str = ""

    def __post_init__(self) -> None:
        self._published = Published(self.platform, self.publisher, self.wall_clock, self.counts)

    async def run(self) -> None:
        """Follows until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow_for_ever())
            tasks.create_task(self._end_former_names())

    @property
    def revisions(self) -> dict[EnvironmentId, int]:
        """The revision that is served of each environment."""
        return self._published.revisions

    @property
    def quarantined(self) -> dict[EnvironmentId, str]:
        """What is wrong with the newest document of each environment whose newest is bad."""
        return self._published.quarantined

    @property
    def contact(self) -> float | None:
        """When the agent was last there, in seconds of ``time.monotonic``; None if it never was."""
        return time.monotonic() if self.connected else self._lost_at

    async def _follow_for_ever(self) -> None:
        while True:
            try:
                await self._follow()
            except (OSError, EOFError, FeedBroken) as error:
                self._lost(error)
                await asyncio.sleep(RETRY)

    async def _end_former_names(self) -> None:
        while True:
            await asyncio.sleep(FORMER_NAMES_EVERY)
            self._published.end_former_names()

    async def _follow(self) -> None:
        reader, writer = await asyncio.open_unix_connection(self.path)
        try:
            self._found()
            started = time.monotonic()
            while True:
                if answer := await self._hear(await _read_line(reader)):
                    writer.write(answer)
                    await writer.drain()
                if time.monotonic() - started > SLICE:
                    await asyncio.sleep(0)
                    started = time.monotonic()
        finally:
            writer.transport.abort()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    def _found(self) -> None:
        log.info("agent_connected", extra={"socket": str(self.path)})
        self.connected, self._reason = True, ""
        self._named.clear()

    def _lost(self, error: Exception) -> None:
        reason = "it has closed the connection" if isinstance(error, EOFError) else str(error)
        if reason != self._reason:  # once, not with every attempt
            log.warning("agent_unavailable", extra={"socket": str(self.path), "reason": reason})
        if self.connected:
            self.counts.lost_connections += 1
            self._lost_at = time.monotonic()
        self.connected, self._reason = False, reason

    async def _hear(self, line: bytes) -> bytes | None:
        """Does what ``line`` says; gives what is to be answered, if anything is."""
        word, *rest = line.split(b" ", 3)
        id_ = EnvironmentId(rest[0].decode("latin-1")) if rest else EnvironmentId("")
        match word, rest:
            case b"coming", [_, _, read]:
                await self._expect(id_, read)
            case b"ready", [_, revision]:
                return _answer(id_, revision, is_served=self._fulfil(id_, revision))
            case b"serve", [_, revision, read]:
                return _answer(id_, revision, is_served=await self._serve(id_, read))
            case b"gone", [_]:
                self._named.discard(id_)
                self._withdraw([id_])
            case b"loaded", []:
                self._withdraw({*self._published.environments, *self._coming} - self._named)
                self._load()
            case _:
                raise FeedBroken(f"it says what is not known here, {line[:40]!r}: are both of one release?")
        return None

    async def _expect(self, id_: EnvironmentId, read: bytes) -> None:
        self.counts.changes += 1
        self._named.add(id_)
        if zone := await self._published.compile(id_, read):
            self._coming[id_] = _Coming(zone, document.digest(read))
            self.publisher.announce(zone)

    def _fulfil(self, id_: EnvironmentId, revision: bytes) -> bool:
        coming = self._coming.get(id_)
        if coming is None or b"%d" % coming.zone.revision != revision:
            return False  # what was coming last was bad
        if not self._publish(coming.zone, coming.digest):
            return False
        del self._coming[id_]
        return True

    async def _serve(self, id_: EnvironmentId, read: bytes) -> bool:
        zone = await self._published.compile(id_, read)
        return zone is not None and self._publish(zone, document.digest(read))

    def _publish(self, zone: Zone, digest: str) -> bool:
        owner = self._published.owner(zone.environment.network)
        if owner and owner not in self._named:
            self._withdraw([owner])  # gone while we were not connected: the agent never has two of one network
        return self._published.publish(zone, digest)

    def _withdraw(self, ids: Iterable[EnvironmentId]) -> None:
        for id_ in ids:
            was_coming = self._coming.pop(id_, None)
            if not self._published.withdraw(id_) and was_coming:
                self.publisher.withdraw(id_)

    def _load(self) -> None:
        if not self._is_loaded:
            self._is_loaded = True
            self.publisher.loaded()
            log.info("loaded", extra={"environments": len(self.revisions)})


def _answer(id_: EnvironmentId, revision: bytes, *, is_served: bool) -> bytes:
    return b"%s %s %s\n" % (b"served" if is_served else b"refused", id_.encode(), revision)


async def _read_line(reader: StreamReader) -> bytes:
    """The next line, however long: a document is as large as its environment. Raises ``EOFError``."""
    parts = []
    while True:
        try:
            parts.append(await reader.readuntil(b"\n"))
        except LimitOverrunError as error:
            parts.append(await reader.readexactly(error.consumed))
        except IncompleteReadError:
            raise EOFError from None
        else:
            return b"".join(parts).removesuffix(b"\n")
