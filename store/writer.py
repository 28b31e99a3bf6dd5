"""How an environment is changed: read it, decide, commit; and again if another writer was first.

    read environment ──► change(revision, environment) ──► the same object    nothing to do
          ▲                 │ the next change  └──► the next one ──► store.environments.commit ──► all done
          │                 └─────────────────────────▲                            │
          └────────────── conflict: read again, and change again ◄─────────────────┘

The changes of one environment in this process wait for each other, and those that wait are committed together: each is
given what the one before it has made, and has a revision and an outcome of its own, but the store is read and written
once for all of them. So only other processes can be first, and each of them makes one commit of the environment at a
time too: a few attempts are enough, however many clients there are.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from msgspec.structs import replace

from store import mending
from store.errors import Corrupt, LeaseNotHeld, NetworkLost, NetworkTaken, RevisionConflict, TooManyWaiting
from store.leases import Lease
from store.mending import NewEnvironment
from store.newest import Newest
from store.quotas import merged
from store.store import Store
from store.turns import Turns, out_of_turn
from support.breaks import Breaks
from zones import document, edits
from zones.edits import Edit, must_exist
from zones.errors import Conflict, Missing
from zones.model import Environment
from zones.names import EnvironmentId
from zones.quota import Quota, check_quota, grows
from zones.withdrawal import loss

MAX_ATTEMPTS = 20  # more than a handful of processes need, and over before the caller's own time limit
PAUSE = 0.005  # seconds, times the number of the attempt: the longest random pause, so that writers do not stay in step
MOST_WAITING = 2_000  # changes of one environment; what a single commit at a time can make before clients give up
MOST_TOGETHER = 500  # changes in one commit: the others hear of the first of them after a second at most
SLICE = 0.002  # seconds of applying changes without a break for other requests

T = TypeVar("T")
EnvironmentChange = Callable[[int, Environment | None], Environment]
"""Takes the newest revision and the environment (None if it does not exist); returns what the environment should be."""


@dataclass(frozen=True, slots=True)
class Written:
    """A change that was made."""

    before: Environment | None
    """The environment before; None if it did not exist."""
    after: Environment
    """The environment now; the same object as ``before`` if nothing has changed."""


class WriteCounter(Protocol):
    """Counts of writes, which may be part of larger counts."""

    commits: int
    """Commits that changed something; each may hold several changes."""
    conflicts: int
    """Attempts that failed because another writer was first, or had the network already."""


@dataclass(slots=True)
class WriterCounts:
    """The counts of a writer that was given no others; the fields are those of `WriteCounter`."""

    commits: int = 0
    """Commits that changed something; each may hold several changes."""
    conflicts: int = 0
    """Attempts that failed because another writer was first, or had the network already."""


@dataclass(slots=True)
class _Change:
    """A change that waits for its turn, and the one who waits for it."""

    change: EnvironmentChange
    lease: Lease | None  # without which it is not made
    outcome: asyncio.Future[Written] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    @property
    def is_wanted(self) -> bool:
        return not self.outcome.done()  # whoever asked may have given up


@dataclass(slots=True)
class _Deletion:
    """A deletion that waits for its turn, and the one who waits for it."""

    check: Callable[[Environment | None], object]
    outcome: asyncio.Future[int] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Writer:
    """Changes environments in ``store``.

    All methods raise `store.errors.Unavailable`, `TooManyWaiting` among them, and `RevisionConflict` if another writer
    was first at every attempt.
    """

    def __init__(
        self,
        store: Store,
        counts: WriteCounter | None = None,
        lease: Lease | None = None,
        quota: Quota = Quota(),  # noqa: B008 frozen
        keep: int = 0,
    ) -> None:
        """An agent writes with its ``lease``, unless a change has one of its own.

        ``quota`` is that of environments for which none was set. A deleted environment is kept for ``keep`` seconds.
        """
        self.keep = keep
        self.counts = counts or WriterCounts()
        self.quota = quota
        self.turns = Turns()
        """Who works on each environment: those who make its next commit, and those who reply to the last one."""
        self._store = store
        self._lease = lease
        # What waits, in its order; an environment is in here while a task works on what waits for it.
        self._waiting: dict[EnvironmentId, deque[_Change | _Deletion]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def edit(self, id_: EnvironmentId, wanted: Sequence[Edit], now: int) -> Written:
        """Applies ``wanted`` to the environment ``id_`` in one commit, at ``now`` (Unix milliseconds).

        Raises `zones.errors.ZonesError`: `Missing` if the environment does not exist.
        """
        return await self.change(id_, lambda _, before: edits.apply(must_exist(id_, before), wanted, now))

    async def change(self, id_: EnvironmentId, change: EnvironmentChange, lease: Lease | None = None) -> Written:
        """Makes the environment ``id_`` what ``change`` returns. Calls it again whenever another writer was first.

        What is written in the name of a host needs its ``lease``: it raises `store.errors.LeaseNotHeld` if that is not
        held. If ``change`` returns the object that it was given, nothing is written. What it raises ends the write.
        Raises `NetworkTaken` if the network of each attempt belonged to another environment.
        """
        waiting = _Change(change, lease or self._lease)
        self._wait(id_, waiting)
        return await out_of_turn(waiting.outcome)

    async def delete(self, id_: EnvironmentId, check: Callable[[Environment | None], object]) -> int:
        """Deletes the environment ``id_`` and all its tokens; returns the revision of the deletion.

        ``check`` is called with the environment before, or None if that is damaged in the store; what it raises ends
        the write. Raises `Missing`.
        """
        waiting = _Deletion(check)
        self._wait(id_, waiting)
        return await out_of_turn(waiting.outcome)

    async def undelete(self, id_: EnvironmentId, revision: int | None) -> Environment:
        """Brings the environment ``id_`` back as it was before the deletion ``revision``, or before the last one.

        Its tokens and its quota do not come back. Raises `Missing` if it is not kept, and `Conflict` if there is an
        environment of this id.
        """

        async def attempt() -> Environment:
            newest, present = await self._store.environments.read(id_)
            if present is not None:
                raise Conflict(f"there is an environment {id_!r}: delete it first, if the other one is to come back")
            kept = [one for one in await self._store.deleted.of(id_) if revision in (None, one.revision)]
            before = await self._store.deleted.document(kept[-1]) if kept else None
            if before is None:
                raise Missing(f"no deleted environment {id_!r} is kept{_by(revision)}: 'interlock env list --deleted'")
            environment = replace(before, revision=newest + 1)
            await self._remove_tokens(id_)
            await self._store.environments.undelete(environment, newest, kept[-1].revision)
            self.counts.commits += 1
            return environment

        return await self._attempt(attempt)

    async def replace_damaged(self, id_: EnvironmentId, make: NewEnvironment) -> Environment | None:
        """Replaces the environment ``id_``, which is damaged in the store; None if it is not any more.

        Raises `NetworkTaken` if the network of each attempt belonged to another environment.
        """

        async def attempt() -> Environment | None:
            environment = await mending.replace(self._store, id_, make)
            self.counts.commits += environment is not None
            return environment

        return await self._attempt(attempt)

    def _wait(self, id_: EnvironmentId, item: _Change | _Deletion) -> None:
        if id_ not in self._waiting:
            self._waiting[id_] = deque()
            task = asyncio.create_task(self._work(id_))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        elif len(self._waiting[id_]) >= MOST_WAITING:
            raise TooManyWaiting(f"{MOST_WAITING} changes of environment {id_!r} wait to be made already")
        self._waiting[id_].append(item)

    async def _work(self, id_: EnvironmentId) -> None:
        """Makes what waits for ``id_``, until nothing does."""
        waiting = self._waiting[id_]
        try:
            while waiting:
                await asyncio.sleep(0)  # those who were waiting for the commit before come first
                async with self.turns.taken(id_):
                    item = waiting.popleft()
                    if isinstance(item, _Deletion):
                        await self._settle([item], self._delete(id_, item))
                    else:
                        together = [item, *_take_changes(waiting, MOST_TOGETHER - 1)]
                        await self._settle(together, self._change(id_, together))
        finally:
            # Nothing waits any more, unless the loop ends; then nobody waits for an outcome either.
            del self._waiting[id_]
            for item in waiting:
                item.outcome.cancel()

    async def _settle(self, items: Sequence[_Change | _Deletion], work: Awaitable[None]) -> None:
        """Does ``work``. Whatever it raises becomes the outcome of all ``items`` that have none yet."""
        try:
            await work
        except asyncio.CancelledError:
            for item in items:
                item.outcome.cancel()
            raise
        except Exception as error:  # noqa: BLE001 those who wait raise it
            for item in items:
                _fail(item.outcome, error)

    async def _change(self, id_: EnvironmentId, together: Sequence[_Change]) -> None:
        async def attempt() -> list[tuple[_Change, Written | Exception]]:
            (revision, newest), limits = await asyncio.gather(
                self._store.environments.newest(id_), self._store.quotas.find(id_)
            )
            first = newest.environment if newest else None
            quota = merged(self.quota, limits)
            asked = [item for item in together if item.is_wanted]
            outcomes, last = await _apply_all(asked, revision, first, quota)
            if last is not None and last is not first:
                if first is None and revision:
                    # An environment of this id was deleted before. Should tokens of it have been left, they must not
                    # give access to the new one.
                    await self._remove_tokens(id_)
                if first is not None and loss(first, last).is_notable:
                    # The readers hold back a document that lacks many names, unless they were deleted on purpose.
                    await self._store.guard.allow(id_, last.revision)
                try:
                    most = quota.document if grows(first, last) else None
                    await self._commit(last, revision, outcomes, most, newest)
                except NetworkTaken as error:
                    if first is not None and first.network == last.network:
                        raise NetworkLost(f"environment {id_!r} is damaged in the store: {error}") from error
                    raise  # of one that is new: another network is drawn
                self.counts.commits += 1
                _name_passing(outcomes, last)
            return outcomes

        # Only now: a refusal may be due to a change before it, which counts once it is committed.
        for item, outcome in await self._attempt(attempt):
            if isinstance(outcome, Exception):
                _fail(item.outcome, outcome)
            elif item.is_wanted:
                item.outcome.set_result(outcome)

    async def _commit(
        self,
        last: Environment,
        revision: int,
        outcomes: Sequence[tuple[_Change, Written | Exception]],
        most: int | None,
        before: Newest | None,
    ) -> None:
        written = (item for item, outcome in outcomes if isinstance(outcome, Written))
        leases = list(dict.fromkeys(item.lease for item in written if item.lease))
        try:
            await self._store.environments.commit(last, revision, leases, most, before)
        except LeaseNotHeld as error:
            for item, _ in outcomes:
                if item.lease and item.lease.host == error.host:
                    _fail(item.outcome, error)
            raise _LeaseLost from None  # the others are committed without it

    async def _delete(self, id_: EnvironmentId, deletion: _Deletion) -> None:
        async def attempt() -> int:
            try:
                _, before = await self._store.environments.read(id_)
            except Corrupt:
                deletion.check(None)
                removed = await mending.remove(self._store, id_)
                if removed is None:
                    raise RevisionConflict(id_, 0, 0) from None  # somebody has mended it just now
                revision = removed
            else:
                environment = must_exist(id_, before, advice="it was deleted before, or never created")
                deletion.check(environment)
                revision = await self._store.environments.delete(environment, self.keep)
            self.counts.commits += 1
            await self._remove_tokens(id_)
            return revision

        if not deletion.outcome.done():
            revision = await self._attempt(attempt)
            if not deletion.outcome.done():
                deletion.outcome.set_result(revision)

    async def _attempt(self, attempt: Callable[[], Awaitable[T]]) -> T:
        number = 0
        while True:
            try:
                return await attempt()
            except _LeaseLost:
                continue  # a change less each time
            except (RevisionConflict, NetworkTaken):
                self.counts.conflicts += 1
                number += 1
                if number == MAX_ATTEMPTS:
                    raise
                await asyncio.sleep(random.uniform(0, PAUSE * (number - 1)))  # noqa: S311 no secret

    async def _remove_tokens(self, id_: EnvironmentId) -> None:
        """Removes what was made for ``id_`` and is no part of it: its tokens and its quota."""
        tokens = await self._store.tokens.read()
        await self._store.quotas.set(id_, {})
        await self._store.tokens.remove({one: token for one, token in tokens.items() if token.environment == id_})


def _by(revision: int | None) -> str:
    return "" if revision is None else f" that was deleted by revision {revision}"


class _LeaseLost(Exception):
    """A lease of one of the changes is not held: its outcome says so, and the others are tried again."""


def _name_passing(outcomes: Sequence[tuple[_Change, Written | Exception]], last: Environment) -> None:
    """Gives each environment that was on the way to ``last``, and never stored, a digest that no document has.

    Nobody can get it back, so nothing is lost by not encoding it; a tenth of a second each, where it is large.
    """
    for _, outcome in outcomes:
        if isinstance(outcome, Written) and outcome.after is not last and outcome.after is not outcome.before:
            name = f"{document.digest_of(last)} {outcome.after.revision}".encode()
            document.remember_digest(outcome.after, document.digest(name))


async def _apply_all(
    together: Sequence[_Change], revision: int, first: Environment | None, quota: Quota
) -> tuple[list[tuple[_Change, Written | Exception]], Environment | None]:
    """What each of ``together`` makes of the one before it, and the environment after them all.

    One that raises changes nothing.
    """
    outcomes: list[tuple[_Change, Written | Exception]] = []
    before = first
    breaks = Breaks(SLICE)
    for item in together:
        try:
            after = item.change(revision if before is None else before.revision, before)
            if after is not before:
                check_quota(before, after, quota)
        except Exception as error:  # noqa: BLE001 the one who waits raises it
            outcomes.append((item, error))
        else:
            outcomes.append((item, Written(before, after)))
            before = after
        await breaks.take()
    return outcomes, before


def _take_changes(waiting: deque[_Change | _Deletion], most: int) -> list[_Change]:
    """Takes the changes off ``waiting`` that come before the first deletion, up to ``most``."""
    taken: list[_Change] = []
    while waiting and len(taken) < most and isinstance(item := waiting[0], _Change):
        taken.append(item)
        waiting.popleft()
    return taken


def _fail(outcome: asyncio.Future[Any], error: Exception) -> None:
    if not outcome.done():
        outcome.set_exception(error)
