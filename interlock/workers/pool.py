"""Workers: the processes that answer DNS on one port, forked from the process that follows the source of the zones.

    follower ──► Resolver of this process      has all zones; answers by itself until they are loaded
                    │ fork                     then each worker has them too, in memory that all share
                    ▼
                 worker 0 … N-1                each with its own sockets; what changes later it is sent

The sockets belong to this process, or to the one before it. A worker that ends is replaced by a new one with the same
sockets, where all that it had not read yet still is. So what is lost with a worker that is killed is what it had in its
hands, and with one that leaves, nothing. When this process is killed, the workers go on with what they have, where a
launcher has the sockets, until it closes its end of the line: others answer by then.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from interlock.observe.figures import Families, Past, add_up, count_queries
from interlock.process.forking import fork
from interlock.process.parent import how_it_ended
from interlock.process.scheduling import give_way
from interlock.workers.handed import Incumbent
from interlock.workers.handle import Handle
from interlock.workers.lines import SharedQueryLog
from interlock.workers.steps import Shown, shown
from interlock.workers.worker import LEAVING_SOON, Worker
from resolver.counts import QueryKey
from resolver.scope import ScopeTable
from resolver.server import Resolver
from resolver.sockets import SocketPair
from support.breaks import leave_core
from zones.names import EnvironmentId
from zones.zone import Zone

LEAVING = 4.0  # seconds for which TCP connections in use are served; less than a part of a process has for its end
KILLED_AFTER = 1.0  # seconds beyond that
RESTART_FIRST, RESTART_LAST = 0.05, 1.0  # seconds until one that ends again and again is replaced; its clients wait
WELL_AFTER = 10.0  # seconds; one that has lived for longer is replaced at once
REPORT_DEADLINE = 0.25  # seconds until a worker has said what it did; then the figures are those of a moment before

log = logging.getLogger(__name__)


class MakesWorkers(Protocol):
    """Knows how the resolver of a worker is made."""

    def make_worker(self, scopes: ScopeTable) -> tuple[Resolver, Coroutine[Any, Any, None]]:
        """A resolver that serves what is in ``scopes``, and has nothing else of this process's own.

        With it what keeps its upstreams as they are.
        """


@dataclass(slots=True)
class Workers:
    """All workers of this process. What is published to it reaches ``resolver``, and from there each worker."""

    resolver: Resolver
    """The resolver of this process, which has the zones and answers until the workers do."""
    maker: MakesWorkers
    """Makes the resolvers of the workers."""
    open_sockets: Callable[[], Sequence[Sequence[SocketPair]]]
    """Gives the sockets of each worker. Raises `ListenError`."""
    incumbent: Incumbent = Incumbent.NONE
    """Who answers on the same sockets until the workers do."""
    line: socket.socket | None = None
    """While its other end is open, workers go on when this process is killed; None: they end with it."""
    is_serving: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once each worker has answered."""
    querylog: SharedQueryLog = field(init=False)
    """The lines of all workers."""
    replaced: int = 0
    """How many workers have ended by themselves."""
    _sockets: Sequence[Sequence[SocketPair]] = ()
    _handles: dict[int, Handle] = field(default_factory=dict)  # by slot
    _past: Past = field(default_factory=Past)  # what workers did that are gone
    _is_known: asyncio.Event = field(default_factory=asyncio.Event)  # that all zones are there which there are now
    _progress: asyncio.Event = field(default_factory=asyncio.Event)
    _is_leaving: bool = False
    _is_source_away: bool = False

    def __post_init__(self) -> None:
        self.querylog = SharedQueryLog(self._tell_all)

    # What is published

    def announce(self, zone: Zone) -> None:
        """See `watcher.publisher.Publisher`, as for the methods below."""
        had = shown(self.resolver, zone.id)
        self.resolver.announce(zone)
        self._mark(zone.id, had)

    def publish(self, zone: Zone) -> None:
        had = shown(self.resolver, zone.id)
        self.resolver.publish(zone)
        self._mark(zone.id, had)

    def withdraw(self, environment: EnvironmentId) -> None:
        had = shown(self.resolver, environment)
        self.resolver.withdraw(environment)
        self._mark(environment, had)

    def restored(self, as_of: float) -> None:
        self.resolver.restored(as_of)

    def source_away(self) -> None:
        self.resolver.source_away()
        self._is_source_away = True
        self._settle_for_snapshot()

    def _settle_for_snapshot(self) -> None:
        match self.incumbent:
            case Incumbent.NONE:
                self._is_known.set()
            case Incumbent.WORKERS if self.resolver.is_restored:  # old zones, but somebody looks after those who answer
                self._is_known.set()

    def loaded(self) -> None:
        self.resolver.loaded()
        for handle in self._handles.values():
            handle.load()
        self._is_known.set()

    async def settled(self, environment: EnvironmentId) -> None:
        """Returns when all workers serve what is served for ``environment``."""
        while not all(handle.has(environment) for handle in self._handles.values()):
            self._progress.clear()
            await self._progress.wait()

    # Its life

    async def run(self, ready: Callable[[], None]) -> None:
        """Has the workers answer until cancelled; see `Part`. Raises `ListenError`."""
        self._sockets, tasks = self.open_sockets(), list[asyncio.Task[None]]()
        try:
            if self.incumbent is Incumbent.NONE:
                await self.resolver.start([pair.duplicate() for pair in self._all_pairs])
            ready()
            await self._is_known.wait()
            self._is_leaving = False
            for slot in range(len(self._sockets)):
                tasks.append(asyncio.create_task(self._keep(slot)))
                await asyncio.sleep(0)  # a fork takes milliseconds: queries, and the signal to end, come in between
            tasks.append(asyncio.create_task(self._begin_serving()))
            # Not by `gather`, which would let go of the workers, where this is cancelled, before they have left.
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
            for task in done:
                task.result()
            await asyncio.Future()  # the workers have left: others answer on the sockets
        finally:
            await self._end_all(LEAVING_SOON)
            for task in tasks:
                task.cancel()
            await self.resolver.stop()
            for pair in self._all_pairs:
                pair.close()
            self._sockets = ()
            self.is_serving.clear()

    async def _begin_serving(self) -> None:
        await self._wait_until_serving()
        await self.resolver.leave(LEAVING)  # from now on it only holds the zones for workers to come
        give_way()
        leave_core()
        log.info("workers_serving", extra={"workers": self.pids})
        self.is_serving.set()

    async def leave(self) -> None:
        """Ends the workers, whose clients notice nothing: others go on with the same sockets."""
        self._is_leaving = True
        await self._end_all(LEAVING)

    def incumbent_ended(self) -> None:
        """The program before this one has ended: its workers, if any go on, answer until those of this one do."""
        self.incumbent = Incumbent.WORKERS
        if self._is_source_away:
            self._settle_for_snapshot()

    @property
    def addresses(self) -> Sequence[tuple[str, int]]:
        """Where they answer."""
        return [pair.address for pair in self._sockets[0]] if self._sockets else []

    @property
    def pids(self) -> Sequence[int]:
        """The processes of the workers that answer now."""
        return [handle.pid for handle in self._handles.values() if handle.is_serving]

    @property
    def are_awaited(self) -> bool:
        """Whether the workers of a program that has ended answer, because those of this process do not yet."""
        return self.incumbent is Incumbent.WORKERS and not self.is_serving.is_set()

    @property
    def missing(self) -> int:
        """How many workers do not answer now, though they should."""
        return len(self._sockets) - len(self.pids) if self.is_serving.is_set() else 0

    async def report(self) -> None:
        """Has `figures` be of this moment, as far as the workers answer at once."""
        await asyncio.gather(*(handle.report(REPORT_DEADLINE) for handle in self._handles.values()))

    def figures(self, own: Families) -> Families:
        """What this process (``own``) and all its workers, also those that are gone, have done."""
        unread = sum(pair.unread for pair in self._all_pairs)
        return add_up([own, *(handle.figures for handle in self._handles.values())], self._past, unread)

    def queries(self, own: Mapping[QueryKey, int]) -> Mapping[QueryKey, int]:
        """How many replies of each kind this process (``own``) and all its workers have given."""
        total = Counter(own)
        for key, number in count_queries([handle.figures for handle in self._handles.values()], self._past):
            total[key] += number
        return total

    @property
    def _all_pairs(self) -> list[SocketPair]:
        return [pair for pairs in self._sockets for pair in pairs]

    def _mark(self, id_: EnvironmentId, had: Shown) -> None:
        for handle in self._handles.values():
            handle.mark(id_, had)

    def _tell_all(self, message: Any) -> None:
        for handle in self._handles.values():
            handle.tell(message)

    async def _wait_until_serving(self) -> None:
        while len(self.pids) < len(self._sockets):
            self._progress.clear()
            await self._progress.wait()

    async def _keep(self, slot: int) -> None:
        """Has a worker in ``slot``, and another one whenever that has ended."""
        clock, delay = asyncio.get_running_loop().time, RESTART_FIRST
        while not self._is_leaving:
            began = clock()
            try:
                handle = self._fork(slot)
            except OSError as error:
                log.error("no_worker", extra={"slot": slot, "reason": error.strerror})
                await asyncio.sleep(RESTART_LAST)
                continue
            status = await handle.run()
            self._past.add(handle.figures)
            handle.figures = ()
            if self._is_leaving or handle.is_leaving:
                continue
            self.replaced += 1
            log.error("worker_ended", extra={"pid": handle.pid, "slot": slot, "reason": how_it_ended(status)})
            if clock() - began > WELL_AFTER:
                delay = RESTART_FIRST
            else:
                await asyncio.sleep(delay)
                delay = min(delay * 2, RESTART_LAST)

    def _fork(self, slot: int) -> Handle:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        pairs = self._sockets[slot]
        kept = [theirs.fileno(), *(each for pair in pairs for each in pair.descriptors)]
        if self.line:
            kept.append(self.line.fileno())

        def main() -> Coroutine[Any, Any, None]:
            resolver, follow = self.maker.make_worker(self.resolver.scopes)
            self.resolver.scopes.clear_caches()  # their entries count for the resolver of the parent
            return Worker(resolver, pairs, theirs, follow, self.line).run()

        try:
            pid = fork(main, kept, outlives=self.line is not None)
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        handle = Handle(slot, pid, ours, self._shown, self.querylog.take, self._progress.set)
        self._handles[slot] = handle
        self.querylog.repeat_to(handle.tell)
        return handle

    def _shown(self, id_: EnvironmentId) -> Shown:
        return shown(self.resolver, id_)

    async def _end_all(self, seconds: float) -> None:
        """Ends all workers within about ``seconds``."""
        self._is_leaving = True
        present = [handle for handle in self._handles.values() if not handle.is_gone]
        for handle in present:
            handle.leave(seconds)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds + KILLED_AFTER):
                while not all(handle.is_gone for handle in present):
                    self._progress.clear()
                    await self._progress.wait()
        for handle in present:
            handle.kill()
