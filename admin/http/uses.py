"""When each token was used last: kept to the minute, so that a request does not cost a write."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from contextlib import suppress

from store.errors import Unavailable
from store.store import Store

NOTE_EVERY = 60.0  # seconds between two notes of one token by this process
MOST = 10_000  # tokens whose last note is remembered; beyond that some are noted more often


class TokenUses:
    """Notes in ``store``, after the request and without making anybody wait, that a token was used."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._noted: OrderedDict[str, float] = OrderedDict()  # token id → when, in monotonic seconds
        self._tasks: set[asyncio.Task[None]] = set()

    def note(self, id_: str) -> None:
        """The token ``id_`` was used now."""
        now = time.monotonic()
        if now - self._noted.get(id_, -NOTE_EVERY) < NOTE_EVERY:
            return
        self._noted[id_] = now
        self._noted.move_to_end(id_)
        if len(self._noted) > MOST:
            self._noted.popitem(last=False)
        task = asyncio.create_task(self._write(id_))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _write(self, id_: str) -> None:
        with suppress(Unavailable):  # a minute later it is tried again
            await self._store.tokens.note_use(id_, await self._store.clock.milliseconds())
