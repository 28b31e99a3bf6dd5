"""The hub: what happens, passed on to those who look at it in a browser.

    publish(topic, data)   what is so now: whoever is behind is sent the newest alone
    append(topic, data)    one of a series: all are sent, as far as a viewer keeps up

Each event is made once, however many viewers there are, and nothing is asked of anybody on their behalf. What one
viewer has not been sent yet is bounded: of a series the oldest go, and the viewer is told how many. After a break the
browser names the last event that it has (``Last-Event-ID``); of a series, those after it are sent, if they are still
kept, and else the number of those that are missed is unknown, which is said too.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field

from admin.errors import TooManyViewers

MOST_VIEWERS = 256  # of one process; each takes a connection
MOST_PENDING = 1_000  # events of series that wait for one viewer: a second of a busy log
MOST_KEPT = 500  # events of one series that are kept for those who come back
MOST_SERIES = 64  # series of which events are kept
MISSED = "missed"  # the name of the event that says that a viewer has missed others

Opening = Callable[[str], str | None]
"""Gives the data of the first event of a topic, which says what is so now; None: nothing is."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that has happened, as it is sent."""

    topic: str
    """What it is about, which is also its name in the stream."""
    number: int
    """Counts all events of this process."""
    encoded: bytes
    """The event in the format of an event stream (HTML, 9.2.5)."""


class Viewer:
    """Somebody who looks at some topics."""

    def __init__(self, topics: Collection[str]) -> None:
        self.topics = frozenset(topics)
        self.is_ended = False
        self._newest: dict[str, Event] = {}
        self._series: deque[Event] = deque()
        self._missed: Counter[str] = Counter()
        self._woken = asyncio.Event()

    def put(self, event: Event, *, is_series: bool) -> None:
        """``event`` is to be sent."""
        if is_series:
            self._series.append(event)
            if len(self._series) > MOST_PENDING:
                self._missed[self._series.popleft().topic] += 1
        else:
            self._newest[event.topic] = event
        self._woken.set()

    def note_gap(self, topic: str) -> None:
        """Events of ``topic`` were missed, nobody knows how many."""
        self._missed[topic] += 0
        self._woken.set()

    def end(self) -> None:
        """Nothing more will be sent."""
        self.is_ended = True
        self._woken.set()

    async def wait(self, seconds: float) -> None:
        """Returns when something is to be sent, at the latest after ``seconds``."""
        try:
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        except TimeoutError:
            return

    def take(self) -> bytes:
        """All that is to be sent now, in the order in which it happened."""
        self._woken.clear()
        events = sorted((*self._newest.values(), *self._series), key=lambda event: event.number)
        gaps = [encode_event(MISSED, json.dumps({"topic": topic, "count": n})) for topic, n in self._missed.items()]
        self._newest, self._series, self._missed = {}, deque(), Counter()
        return b"".join((*gaps, *(event.encoded for event in events)))


@dataclass(slots=True)
class Hub:
    """Passes events on."""

    openings: dict[str, Opening] = field(default_factory=dict)
    """What gives the first event of a topic, by the part of the topic before the first ``/``."""
    _viewers: dict[str, set[Viewer]] = field(default_factory=dict)  # by topic
    _all: set[Viewer] = field(default_factory=set)
    _kept: OrderedDict[str, deque[Event]] = field(default_factory=OrderedDict)
    _number: int = 0
    _life: str = field(default_factory=lambda: secrets.token_hex(4))  # tells this process's events from another's
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def topics(self) -> Collection[str]:
        """The topics that somebody looks at now."""
        return self._viewers.keys()

    async def wait_for_change(self, seconds: float) -> None:
        """Returns when `topics` has changed, at the latest after ``seconds``."""
        self._changed.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            return

    def publish(self, topic: str, data: str) -> None:
        """``data`` is so now."""
        self._pass_on(topic, data, is_series=False)

    def append(self, topic: str, data: str) -> None:
        """``data`` is the next of the series ``topic``."""
        event = self._pass_on(topic, data, is_series=True)
        if event is None:
            return
        kept = self._kept.setdefault(topic, deque(maxlen=MOST_KEPT))
        kept.append(event)
        self._kept.move_to_end(topic)
        if len(self._kept) > MOST_SERIES:
            self._kept.popitem(last=False)

    def open(self, topics: Iterable[str], after: str = "") -> Viewer:
        """A viewer of ``topics``, whose last event was ``after``. Raises `TooManyViewers`."""
        if len(self._all) >= MOST_VIEWERS:
            raise TooManyViewers(f"{MOST_VIEWERS} people look at this control plane already: close another page")
        viewer = Viewer(frozenset(topics))
        self._all.add(viewer)
        for topic in viewer.topics:
            if topic not in self._viewers:
                self._viewers[topic] = set()
                self._changed.set()
            self._viewers[topic].add(viewer)
            self._begin(viewer, topic, after)
        return viewer

    def close(self, viewer: Viewer) -> None:
        """``viewer`` is gone."""
        self._all.discard(viewer)
        for topic in viewer.topics:
            if others := self._viewers.get(topic):
                others.discard(viewer)
                if not others:
                    del self._viewers[topic]
                    self._changed.set()

    def end_all(self) -> None:
        """Ends all viewers, because this process ends."""
        for viewer in list(self._all):
            viewer.end()

    def _begin(self, viewer: Viewer, topic: str, after: str) -> None:
        opening = self.openings.get(topic.partition("/")[0])
        if opening and (data := opening(topic)) is not None:
            viewer.put(self._make(topic, data), is_series=False)
        if not after:
            return
        kept = self._kept.get(topic, ())
        life, _, number = after.partition("-")
        is_whole = life == self._life and number.isdecimal()
        if kept and (not is_whole or int(number) < kept[0].number - 1):
            viewer.note_gap(topic)
        for event in kept:
            if not is_whole or event.number > int(number):
                viewer.put(event, is_series=True)

    def _pass_on(self, topic: str, data: str, *, is_series: bool) -> Event | None:
        viewers = self._viewers.get(topic)
        if not viewers and topic not in self._kept:
            return None
        event = self._make(topic, data)
        for viewer in viewers or ():
            viewer.put(event, is_series=is_series)
        return event

    def _make(self, topic: str, data: str) -> Event:
        self._number += 1
        return Event(topic, self._number, encode_event(topic, data, f"{self._life}-{self._number}"))


def encode_event(name: str, data: str, id_: str = "") -> bytes:
    """The event ``name`` with ``data``. Whatever is in ``data``, no line of it is another field of the event."""
    lines = data.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    head = [f"id: {id_}"] if id_ else []
    return "\n".join([*head, f"event: {name}", *(f"data: {line}" for line in lines), "", ""]).encode()
