"""How a write is made: read, decide, commit; and again if somebody else was first.

    read environment ──► step(revision, environment) ──► the same object    nothing to do
          ▲                                         └──► the next one ──► store.commit ──► done
          └────────────── conflict: read again ◄───────────────────────────────┘

Writers of one environment in this process take turns, so only other processes can be in the way, and each of them
has one writer at a time too: a few rounds settle it however many clients there are.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from weakref import WeakValueDictionary

from msgspec.structs import replace

from admin.counts import Counts
from admin.preconditions import Preconditions
from watcher.errors import NetworkTaken, RevisionConflict
from watcher.store import Store
from zones import edits
from zones.addresses import Platform
from zones.edits import Edit
from zones.errors import Missing
from zones.model import Environment
from zones.names import EnvironmentId

MAX_ATTEMPTS = 20  # beyond what a handful of processes need; then the client is told, before its patience ends
PAUSE = 0.005  # seconds, times the attempt; the spread that lets one of two competing processes go first
NETWORK_BITS = 32  # of an environment's network, by chance (RFC 4193 §3.2.2)

Step = Callable[[int, Environment | None], Environment]


@dataclass(frozen=True, slots=True)
class Committed:
    """A write that was made. ``before`` is None for a new environment; equal to ``after`` where nothing changed."""

    before: Environment | None
    after: Environment


class Committer:
    """Writes to ``store``. All methods raise `watcher.errors.Unavailable`, and `RevisionConflict` for too many."""

    def __init__(self, store: Store, platform: Platform, counts: Counts) -> None:
        self._store = store
        self._platform = platform
        self._counts = counts
        self._turns: WeakValueDictionary[EnvironmentId, asyncio.Lock] = WeakValueDictionary()

    async def edit(
        self,
        id_: EnvironmentId,
        wanted: Sequence[Edit],
        now: int,
        preconditions: Preconditions,
        exists: Callable[[Environment], bool] = lambda _environment: True,
    ) -> Committed:
        """Applies ``wanted`` to the environment ``id_``, all in one commit.

        ``exists`` says whether what is to be written is there already. Raises `zones.errors.ZonesError` and
        `admin.errors.PreconditionFailed`.
        """

        def step(_revision: int, environment: Environment | None) -> Environment:
            found = must_exist(id_, environment)
            after = edits.apply(found, wanted, now)
            # Last, for a precondition never hides another reason to refuse (RFC 9110 §13.2.1).
            preconditions.check(found, exists(found))
            return after

        return await self._settle(id_, step)

    async def put_environment(
        self, id_: EnvironmentId, wanted: Sequence[Edit], now: int, preconditions: Preconditions
    ) -> Committed:
        """Creates the environment ``id_`` unless it is there, and applies ``wanted``, all in one commit."""

        def step(revision: int, environment: Environment | None) -> Environment:
            preconditions.check(environment, environment is not None)
            if environment is not None:
                return edits.apply(environment, wanted, now)
            network = self._platform.environment_network(secrets.randbelow((1 << NETWORK_BITS) - 1) + 1)
            made = Environment(id=id_, network=network, revision=revision + 1)
            return replace(edits.apply(made, wanted, now), revision=revision + 1)

        return await self._settle(id_, step)

    async def delete_environment(self, id_: EnvironmentId, preconditions: Preconditions) -> int:
        """Deletes the environment ``id_`` and all its tokens; gives the revision of the deletion."""
        async with self._turn(id_):
            for attempt in range(MAX_ATTEMPTS):
                _, read = await self._store.environment(id_)
                environment = must_exist(id_, read)
                preconditions.check(environment, exists=True)
                try:
                    revision = await self._store.delete(environment)
                except RevisionConflict as conflict:
                    await self._give_way(attempt, conflict)
                    continue
                self._counts.commits += 1
                await self._forget_tokens(id_)
                return revision
        raise AssertionError("the last attempt returns or raises")

    async def _settle(self, id_: EnvironmentId, step: Step) -> Committed:
        async with self._turn(id_):
            for attempt in range(MAX_ATTEMPTS):
                revision, before = await self._store.environment(id_)
                after = step(revision, before)
                if after is before:
                    return Committed(before, after)
                if before is None and revision:
                    # One created anew must not be open to tokens of the one deleted, should some have been left.
                    await self._forget_tokens(id_)
                try:
                    await self._store.commit(after, revision)
                except (RevisionConflict, NetworkTaken) as conflict:
                    await self._give_way(attempt, conflict)
                    continue
                self._counts.commits += 1
                return Committed(before, after)
        raise AssertionError("the last attempt returns or raises")

    def _turn(self, id_: EnvironmentId) -> asyncio.Lock:
        return self._turns.setdefault(id_, asyncio.Lock())

    async def _give_way(self, attempt: int, conflict: Exception) -> None:
        self._counts.conflicts += 1
        if attempt + 1 == MAX_ATTEMPTS:
            raise conflict
        await asyncio.sleep(random.uniform(0, PAUSE * attempt))  # noqa: S311 no secret

    async def _forget_tokens(self, id_: EnvironmentId) -> None:
        tokens = await self._store.tokens()
        await self._store.remove_tokens(digest for digest, token in tokens.items() if token.environment == id_)


def must_exist(id_: EnvironmentId, environment: Environment | None) -> Environment:
    """``environment``, which was found under ``id_``. Raises `Missing` where nothing was."""
    if environment is None:
        raise Missing(
            f"there is no environment {id_!r}: create it with PUT /v1/environments/{id_}", field="environment"
        )
    return environment
