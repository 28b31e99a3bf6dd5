"""Telling the store what this host has: the newest revision of each environment that is reached and answered here."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field

from store.errors import Unavailable
from store.store import Store

RETRY = 0.5  # seconds until a store that did not take them is asked again

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Acknowledger:
    """Passes on the acknowledgements of the host ``me``, the newest of each, all that wait in one step."""

    store: Store
    me: str
    given: dict[str, int] = field(default_factory=dict)
    _waiting: dict[str, int] = field(default_factory=dict)
    _giving: dict[str, int] = field(default_factory=dict)
    _wake: asyncio.Event = field(default_factory=asyncio.Event)

    def note(self, id_: str, revision: int) -> None:
        """``revision`` of ``id_`` (an environment, or `HOSTS`) is what is here now."""
        # Not only a newer one: a data set that was restored from a copy counts on from an older one.
        newest = self._waiting.get(id_, self._giving.get(id_, self.given.get(id_)))
        if revision != newest:
            self._waiting[id_] = revision
            self._wake.set()

    def forget(self, id_: str) -> None:
        """``id_`` is gone."""
        for some in (self._waiting, self._giving, self.given):
            some.pop(id_, None)

    def again(self) -> None:
        """All that was given is to be given once more: the store may have lost it."""
        # What is on its way just now is newer than what was given, and must not be followed by it.
        self._waiting = {**self.given, **self._giving, **self._waiting}
        self.given.clear()
        self._wake.set()

    async def run(self) -> None:
        """Works until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            self._giving, self._waiting = self._waiting, {}
            try:
                await self.store.acks.acknowledge(self.me, self._giving)
            except Unavailable as error:
                log.warning("not_acknowledged", extra={"environments": len(self._giving), "reason": str(error)})
                self._waiting = {**self._giving, **self._waiting}
                self._wake.set()
                await asyncio.sleep(RETRY)
            else:
                self.given |= self._giving
            finally:
                self._giving = {}
