"""What a client may write, under the preconditions that it states; how a write is made is `store.writer`'s."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence

from msgspec.structs import replace

from admin.counts import ApiCounts
from admin.http.preconditions import Preconditions
from store.store import Store
from store.writer import Writer, Written
from zones import edits
from zones.addresses import Platform
from zones.edits import Edit
from zones.model import Environment
from zones.names import EnvironmentId

NETWORK_BITS = 32  # of an environment's network, by chance (RFC 4193 §3.2.2)


class Committer:
    """Writes to ``store``. All methods raise `store.errors.Unavailable`, and `RevisionConflict` for too many."""

    def __init__(self, store: Store, platform: Platform, counts: ApiCounts) -> None:
        self._writer = Writer(store, counts)
        self._platform = platform

    async def edit(
        self,
        id_: EnvironmentId,
        wanted: Sequence[Edit],
        now: int,
        preconditions: Preconditions,
        exists: Callable[[Environment], bool] = lambda _environment: True,
    ) -> Written:
        """Applies ``wanted`` to the environment ``id_``, all in one commit.

        ``exists`` says whether what is to be written is there already. Raises `zones.errors.ZonesError` and
        `admin.errors.PreconditionFailed`.
        """

        def step(_revision: int, environment: Environment | None) -> Environment:
            found = require_environment(id_, environment)
            after = edits.apply(found, wanted, now)
            # Last, for a precondition never hides another reason to refuse (RFC 9110 §13.2.1).
            preconditions.check(found, exists(found))
            return after

        return await self._writer.settle(id_, step)

    async def put_environment(
        self, id_: EnvironmentId, wanted: Sequence[Edit], now: int, preconditions: Preconditions
    ) -> Written:
        """Creates the environment ``id_`` unless it is there, and applies ``wanted``, all in one commit."""

        def step(revision: int, environment: Environment | None) -> Environment:
            preconditions.check(environment, environment is not None)
            if environment is not None:
                return edits.apply(environment, wanted, now)
            network = self._platform.environment_network(secrets.randbelow((1 << NETWORK_BITS) - 1) + 1)
            made = Environment(id=id_, network=network, revision=revision + 1)
            return replace(edits.apply(made, wanted, now), revision=revision + 1)

        return await self._writer.settle(id_, step)

    async def delete_environment(self, id_: EnvironmentId, preconditions: Preconditions) -> int:
        """Deletes the environment ``id_`` and all its tokens; gives the revision of the deletion."""
        return await self._writer.delete(id_, lambda environment: preconditions.check(environment, exists=True))


def require_environment(id_: EnvironmentId, environment: Environment | None) -> Environment:
    """Returns ``environment``, which was found under ``id_``. Raises `Missing`, with the request that creates it."""
    return edits.must_exist(id_, environment, advice=f"create it with PUT /v1/environments/{id_}")
