"""How far replicas have come: what a ``WAIT`` at the primary cannot tell is asked of the replicas themselves.

A replica may follow another replica instead of the primary, as a server does that comes back with the configuration of
before a failover. It then has what is written, and can be promoted, but confirms nothing to the primary until the
Sentinels have told it whom to follow, after some ten seconds.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from store.client import Arguments, as_unavailable, open_client
from store.errors import Unavailable
from store.url import Address

ANSWER_TIMEOUT = 1.0  # seconds until a replica counts as silent
ASK_AGAIN = 0.005  # seconds until replicas that lack a write are asked again; it takes them some milliseconds


@dataclass(frozen=True, slots=True)
class Position:
    """A place in what a primary has written."""

    history: str
    """The id of what was written since a server became the primary. Its replicas share it, and theirs too."""
    offset: int
    """Octets from the beginning."""
    followers: frozenset[Address]
    """Where the replicas are that follow the primary itself, and are in step."""


def position_of(replication: Mapping[str, Any]) -> Position:
    """Where a primary is, by its ``INFO replication``."""
    return Position(
        str(replication["master_replid"]), int(replication["master_repl_offset"]), followers_of(replication)
    )


def followers_of(replication: Mapping[str, Any]) -> frozenset[Address]:
    """Where the replicas are that follow a server and are in step, by its ``INFO replication``."""
    found = (value for key, value in replication.items() if key.startswith("slave") and isinstance(value, dict))
    return frozenset((str(one["ip"]), int(one["port"])) for one in found if one.get("state") == "online")


class Replicas:
    """The replicas that Sentinels name; ``arguments_of`` says how to reach the one at an address."""

    def __init__(self, arguments_of: Callable[[Address], Arguments], shown: str) -> None:
        self._arguments_of = arguments_of
        self._shown = shown
        self._clients: dict[Address, Any] = {}

    async def count_holding(self, addresses: Iterable[Address], position: Position, deadline: float) -> int:
        """How many of the replicas at ``addresses`` hold all that the primary had written at ``position``.

        It returns when all do, or after ``deadline`` (``time.monotonic``).
        """
        lacking = frozenset(addresses)
        wanted = len(lacking)
        while True:
            asked = sorted(lacking)
            holding = await asyncio.gather(*(self._holds(address, position) for address in asked))
            lacking = frozenset(address for address, holds in zip(asked, holding, strict=True) if not holds)
            if not lacking or time.monotonic() >= deadline:
                return wanted - len(lacking)
            await asyncio.sleep(ASK_AGAIN)

    async def close(self) -> None:
        """Closes the connections to the replicas."""
        for client in self._clients.values():
            await client.aclose()

    async def _holds(self, address: Address, position: Position) -> bool:
        if address not in self._clients:
            self._clients[address] = open_client(self._arguments_of(address), timeout=ANSWER_TIMEOUT, any_role=True)
        try:
            with as_unavailable(self._shown):
                found = await self._clients[address].info("replication")
        except Unavailable:
            return False
        return (
            found.get("master_link_status") == "up"  # a primary has no link, and a history of its own
            and str(found["master_replid"]) == position.history
            and int(found["slave_repl_offset"]) >= position.offset
        )
