"""Those who watch look-ups: what waits for each of them, and what each is told of how much of it all it hears."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field

import msgspec
from msgspec import Struct

from watcher.session.lookups import Lookup, LookupFilter

BATCHES = 100  # that wait for a viewer: ten seconds
MOST_OF_ONE_BATCH = 1000  # look-ups between two flushes


class Status(Struct, frozen=True):
    """Which resolvers a viewer hears, and what is left out."""

    heard: tuple[str, ...]
    """The hosts whose resolvers give look-ups."""
    silent: tuple[str, ...]
    """The hosts whose agent is asked, and none of whose resolvers gives look-ups: they may be of an older release."""
    unheard: tuple[str, ...]
    """The live hosts that this control plane cannot ask: their session is with another one, or they are older."""
    here: bool
    """Whether the resolver of this control plane's own process is heard."""
    left_out: int
    """How many look-ups were left out since the viewer's filter is watched, because there were too many."""


class Batch(Struct, frozen=True):
    """What a viewer is sent at once."""

    lookups: tuple[Lookup, ...] = ()
    """Look-ups, in the order in which they came."""
    encoded: bytes = b""
    """The same as a JSON array; made once for all viewers that want the same."""
    status: Status | None = None
    """Which resolvers are heard. None: the same as before."""


@dataclass(eq=False, slots=True)
class Viewer:
    """One who watches."""

    actor: str
    """The id of the token."""
    lost: int = 0
    """Look-ups that it has not taken in time."""
    _waiting: deque[Batch] = field(default_factory=deque)
    _status: Status | None = None
    _woken: asyncio.Event = field(default_factory=asyncio.Event)
    _is_closed: bool = False

    def give(self, batch: Batch) -> int:
        """Gives it ``batch``; returns how many look-ups there was no room for."""
        if len(self._waiting) >= BATCHES:
            self.lost += len(batch.lookups)
            return len(batch.lookups)
        self._waiting.append(batch)
        self._woken.set()
        return 0

    def tell(self, status: Status) -> None:
        """Tells it ``status``, if that is another than before."""
        shown = msgspec.structs.replace(status, left_out=status.left_out + self.lost)
        if shown != self._status:
            self._status = shown
            self.give(Batch(status=shown))

    def close(self) -> None:
        """Ends it."""
        self._is_closed = True
        self._woken.set()

    async def next(self, seconds: float) -> Batch | None:
        """What it is sent next; an empty one after so many ``seconds``. None: it has ended."""
        try:
            async with asyncio.timeout(seconds):
                while not self._waiting and not self._is_closed:
                    self._woken.clear()
                    await self._woken.wait()
        except TimeoutError:
            return Batch()
        return self._waiting.popleft() if self._waiting and not self._is_closed else None


@dataclass(eq=False, slots=True)
class Group:
    """All viewers that want the same."""

    wanted: LookupFilter
    """What they want."""
    viewers: list[Viewer] = field(default_factory=list)
    """The viewers."""
    waiting: list[Lookup] = field(default_factory=list)
    """The look-ups since the last flush."""
    left_out: int = 0
    """How many look-ups were left out before they came here."""

    def put(self, lookup: Lookup) -> bool:
        """Adds ``lookup``. False where there is no room."""
        if len(self.waiting) >= MOST_OF_ONE_BATCH:
            self.left_out += 1
            return False
        self.waiting.append(lookup)
        return True

    def flush(self, status: Status | None) -> int:
        """Gives each viewer what waits, and tells it ``status``. Returns how many look-ups found no room."""
        lost = 0
        if self.waiting:
            lookups, self.waiting = tuple(self.waiting), []
            batch = Batch(lookups, _encoder.encode(lookups))
            lost = sum(viewer.give(batch) for viewer in self.viewers)
        if status:
            for viewer in self.viewers:
                viewer.tell(status)
        return lost


_encoder = msgspec.json.Encoder()
