"""What was confirmed of mass deletions, so that readers which hold one back follow it.

    *                  all that the store lacked at one moment is to be withdrawn
    <environment>      the revision that lost many of its names because a client of the API asked for just that

A `Confirmation` names the state of the store that it was given for. So one that comes back with an old copy of the data
confirms nothing.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from store.changes import BEGINNING, CHANGES_KEPT, Position, is_after
from store.client import Script
from store.connection import Connection
from store.scripts import read_script

CONFIRM_SCRIPT = Script(read_script("confirm_withdrawals", shared=("wrong_type", "append_change")))
EVERYTHING = "*"  # the field that is no environment's


@dataclass(frozen=True, slots=True)
class Confirmation:
    """An operator's word that what the store lacked at ``given_for`` is to be withdrawn."""

    given_for: Position
    """The state of the store that was confirmed."""
    change: str
    """The position of its own change, which also is its id."""

    def covers(self, held: Position | None, applied: str) -> bool:
        """Whether it is about what a reader has found that had applied all changes until ``applied``.

        ``held`` is the state of another data set that the reader holds back; None if it holds none.
        """
        if is_after(self.change, applied):
            return True
        # Another data set may number its changes below those that were applied.
        return (
            held is not None and self.given_for.epoch == held.epoch and not is_after(held.change, self.given_for.change)
        )


class GuardStore:
    """Reads and writes confirmations. All methods raise `store.errors.Unavailable`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._keys = connection.keys

    async def confirm(self) -> Confirmation:
        """Confirms all that the store lacks now; every reader hears of it at once."""
        keys = self._keys
        written = await self._connection.write(
            CONFIRM_SCRIPT, [keys.epoch, keys.guard, keys.changes], [secrets.token_hex(8), CHANGES_KEPT]
        )
        confirmation = decode_confirmation(written)
        assert confirmation is not None
        return confirmation

    async def read(self) -> Confirmation | None:
        """The newest confirmation; None if there is none."""
        async with self._connection.client() as redis:
            found = await redis.hget(self._keys.guard, EVERYTHING)
        return decode_confirmation(found) if found else None

    async def allow(self, id_: str, revision: int) -> None:
        """Notes that ``revision`` of the environment ``id_``, about to be committed, loses many names on purpose."""
        async with self._connection.client() as redis:
            await redis.hset(self._keys.guard, id_, revision)

    async def allowed(self, id_: str) -> int:
        """The newest revision of ``id_`` that lost many names on purpose; 0 if there is none."""
        async with self._connection.client() as redis:
            found = await redis.hget(self._keys.guard, id_)
        return int(found) if found and found.isdigit() else 0


def decode_confirmation(written: bytes) -> Confirmation | None:
    """The confirmation in ``written``; None for a text that the script has not made."""
    match written.decode(errors="replace").split(" "):
        case [epoch, after, change]:
            return Confirmation(Position(None if epoch == "-" else epoch, after or BEGINNING), change)
    return None
