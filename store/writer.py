"""How an environment is changed: read it, decide, commit; and again if another writer was first.

    read environment ──► change(revision, environment) ──► the same object    nothing to do
          ▲                                           └──► the next one ──► store.environments.commit ──► done
          └────────────── conflict: read again ◄──────────────────────────────────────┘

The changes of one environment in this process wait for each other. So only other processes can be first, and each of
them makes one change of the environment at a time too: a few attempts are enough, however many clients there are.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar
from weakref import WeakValueDictionary

from store.errors import NetworkTaken, RevisionConflict
from store.leases import Lease
from store.store import Store
from zones import edits
from zones.edits import Edit, must_exist
from zones.model import Environment
from zones.names import EnvironmentId

MAX_ATTEMPTS = 20  # more than a handful of processes need; after them the caller gets the conflict, before it times out
PAUSE = 0.005  # seconds, times the number of the attempt: the longest of the random pauses, which lets one process win

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
    """Commits that changed something."""
    conflicts: int
    """Attempts that failed because another writer was first, or had the network already."""


@dataclass(slots=True)
class WriterCounts:
    """The counts of a writer that was given no others; the fields are those of `WriteCounter`."""

    commits: int = 0
    """Commits that changed something."""
    conflicts: int = 0
    """Attempts that failed because another writer was first, or had the network already."""


class Writer:
    """Changes environments in ``store``.

    All methods raise `store.errors.Unavailable`, and `RevisionConflict` if another writer was first at every attempt.
    """

    def __init__(self, store: Store, counts: WriteCounter | None = None, lease: Lease | None = None) -> None:
        """An agent writes with its ``lease``, without which `change` and `edit` raise `store.errors.LeaseNotHeld`."""
        self.counts = counts or WriterCounts()
        self._store = store
        self._lease = lease
        self._locks: WeakValueDictionary[EnvironmentId, asyncio.Lock] = WeakValueDictionary()

    async def edit(self, id_: EnvironmentId, wanted: Sequence[Edit], now: int) -> Written:
        """Applies ``wanted`` to the environment ``id_`` in one commit, at ``now`` (Unix milliseconds).

        Raises `zones.errors.ZonesError`: `Missing` if the environment does not exist.
        """
        return await self.change(id_, lambda _, before: edits.apply(must_exist(id_, before), wanted, now))

    async def change(self, id_: EnvironmentId, change: EnvironmentChange) -> Written:
        """Makes the environment ``id_`` what ``change`` returns. Calls it again whenever another writer was first.

        If ``change`` returns the object that it was given, nothing is written. What it raises ends the write. Raises
        `NetworkTaken` if the network of each attempt belonged to another environment.
        """

        async def attempt() -> Written:
            revision, before = await self._store.environments.read(id_)
            after = change(revision, before)
            if after is not before:
                if before is None and revision:
                    # An environment of this id was deleted before. Should tokens of it have been left, they must not
                    # give access to the new one.
                    await self._remove_tokens(id_)
                await self._store.environments.commit(after, revision, self._lease)
                self.counts.commits += 1
            return Written(before, after)

        return await self._attempt_in_turn(id_, attempt)

    async def delete(self, id_: EnvironmentId, check: Callable[[Environment], object]) -> int:
        """Deletes the environment ``id_`` and all its tokens; returns the revision of the deletion.

        ``check`` is called with the environment before; what it raises ends the write. Raises `Missing`.
        """

        async def attempt() -> int:
            _, before = await self._store.environments.read(id_)
            environment = must_exist(id_, before)
            check(environment)
            revision = await self._store.environments.delete(environment)
            self.counts.commits += 1
            await self._remove_tokens(id_)
            return revision

        return await self._attempt_in_turn(id_, attempt)

    async def _attempt_in_turn(self, id_: EnvironmentId, attempt: Callable[[], Awaitable[T]]) -> T:
        async with self._locks.setdefault(id_, asyncio.Lock()):
            for number in range(MAX_ATTEMPTS):
                try:
                    return await attempt()
                except (RevisionConflict, NetworkTaken):
                    self.counts.conflicts += 1
                    if number + 1 == MAX_ATTEMPTS:
                        raise
                    await asyncio.sleep(random.uniform(0, PAUSE * number))  # noqa: S311 no secret
        raise AssertionError("the last attempt returns or raises")

    async def _remove_tokens(self, id_: EnvironmentId) -> None:
        tokens = await self._store.tokens.read()
        await self._store.tokens.remove(digest for digest, token in tokens.items() if token.environment == id_)
