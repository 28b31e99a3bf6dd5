"""Waiting until all live hosts have acknowledged a revision: each environment that is waited for is asked about once.

The store is asked when a wait begins: it says which hosts live and lag. An acknowledgement that has arrived here since,
and is in the store, takes its host off them; with the last one the wait is over, and nobody asks. Hosts whose sessions
are at other control planes acknowledge there, so while such a host is waited for, the store is asked at intervals that
grow. And it is asked ten times a second for what no acknowledgement tells: that a host has died.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from store.acks import AckStore, Progress
from store.errors import Unavailable

ASK_FIRST, ASK_LAST, ASK_GROWTH = 0.004, 0.1, 1.3  # seconds between two questions about hosts at other control planes
LONGEST = 60.0  # seconds; no agent waits as long


@dataclass(eq=False, slots=True)
class _Waiter:
    revision: int
    but: str
    only: frozenset[str]
    end: float
    outcome: asyncio.Future[frozenset[str]]
    missing: set[str] | None = None  # the hosts that lag, but for what was told since; None before the first question

    def lagging(self, progress: Progress) -> frozenset[str]:
        lagging = progress.lagging(self.revision, self.but)
        return lagging & self.only if self.only else lagging


@dataclass(slots=True)
class _Waited:
    """An environment, or the documents of all hosts, that is waited for."""

    waiters: set[_Waiter] = field(default_factory=set)
    woken: asyncio.Event = field(default_factory=asyncio.Event)
    told: dict[str, int] = field(default_factory=dict)  # acknowledged here since the last question was begun

    def judge(self, progress: Progress, now: float) -> None:
        """Ends the waits that are over by ``progress``, which the store has just said."""
        for waiter in list(self.waiters):
            lagging = waiter.lagging(progress)
            waiter.missing = set(lagging)
            if not lagging or now >= waiter.end:
                self._end(waiter, lagging)
        for host, revision in self.told.items():  # while the store was being asked
            self.tell(host, revision)

    @property
    def missing(self) -> set[str]:
        """The hosts that are waited for."""
        return set().union(*(waiter.missing or () for waiter in self.waiters))

    @property
    def first_end(self) -> float:
        """When the first wait ends though hosts lag."""
        return min(waiter.end for waiter in self.waiters)

    def tell(self, host: str, revision: int) -> None:
        """Ends the waits that are over by what was told."""
        for waiter in list(self.waiters):
            if waiter.missing is not None and revision >= waiter.revision and host in waiter.missing:
                waiter.missing.discard(host)
                if not waiter.missing:
                    self._end(waiter, frozenset())
        if not self.waiters:
            self.woken.set()  # who asks the store has nothing to ask any more

    def _end(self, waiter: _Waiter, lagging: frozenset[str]) -> None:
        if not waiter.outcome.done():
            waiter.outcome.set_result(lagging)
        self.waiters.discard(waiter)


@dataclass(slots=True)
class Waits:
    """All waits at this control plane."""

    acks: AckStore
    """Where the acknowledgements are."""
    is_here: Callable[[str], bool]
    """Whether a host has a session at this control plane, and so acknowledges here."""
    asked: int = 0
    """How often the store was asked."""
    _waited: dict[str, _Waited] = field(default_factory=dict)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def wait(self, id_: str, revision: int, but: str, seconds: float, only: Iterable[str] = ()) -> frozenset[str]:
        """Returns once all live hosts, ``but`` one, have ``revision`` of ``id_``, an environment or `ALL_HOSTS`.

        With ``only``, those alone are waited for. After ``seconds`` it returns those that lag. Raises
        `store.errors.Unavailable`.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + max(0.0, min(seconds, LONGEST))
        waiter = _Waiter(revision, but, frozenset(only), end, loop.create_future())
        waited = self._waited.get(id_)
        if waited is None:
            waited = self._waited[id_] = _Waited()
            task = asyncio.create_task(self._ask(id_, waited))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        waited.waiters.add(waiter)
        waited.woken.set()
        try:
            return await waiter.outcome
        finally:
            waited.waiters.discard(waiter)

    def note(self, host: str, revisions: Mapping[str, int]) -> None:
        """The acknowledgement of ``revisions`` by ``host`` has arrived here, and is in the store."""
        for id_, revision in revisions.items():
            if waited := self._waited.get(id_):
                waited.told[host] = revision
                waited.tell(host, revision)

    async def _ask(self, id_: str, waited: _Waited) -> None:
        clock, pause = asyncio.get_running_loop().time, ASK_FIRST
        try:
            while waited.waiters:
                waited.woken.clear()
                waited.told.clear()
                self.asked += 1
                waited.judge(await self.acks.progress(id_), clock())
                if not waited.waiters:
                    return
                pause = ASK_LAST if all(map(self.is_here, waited.missing)) else pause
                try:
                    async with asyncio.timeout_at(min(clock() + pause, waited.first_end)):
                        await waited.woken.wait()
                    pause = ASK_FIRST
                except TimeoutError:
                    pause = min(pause * ASK_GROWTH, ASK_LAST)
        except Unavailable as error:
            for waiter in waited.waiters:
                if not waiter.outcome.done():
                    waiter.outcome.set_exception(error)
        finally:
            del self._waited[id_]
