"""What the process with the zones and a worker say to each other, over a socket that only these two have.

    to the worker     Changes      zones that have changed since the worker was told last; it replies Done
                      Loaded       all environments are known
                      Watch        somebody looks at the query log; Unwatch: no longer
                      Report       is it well, and what has it done? It replies Figures
                      Leave        answer what was received, and end

    from the worker   Serving      it answers queries
                      Done         it answers from the zones of those Changes
                      Figures      what it has done since it began
                      Seen         a line for the query log

Both ends are one program and one memory until the worker is forked, and neither is trusted less than the other: so the
messages are written as Python writes objects (pickle).
"""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from interlock.observe.figures import Families
from interlock.workers.steps import Change
from resolver.querylog import Filter, Line

_LENGTH = 4  # octets before each message that say how long it is


@dataclass(frozen=True, slots=True)
class Changes:
    """Zones that have changed since the worker was told last."""

    changes: tuple[Change, ...]
    """One for each environment."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """All environments are known: one that the worker does not know does not exist."""


@dataclass(frozen=True, slots=True)
class Watch:
    """Somebody looks at the query log."""

    number: int
    """Which watcher it is."""
    filters: tuple[Filter, ...]
    """Which lines it wants."""
    most: int
    """How many of them a second."""


@dataclass(frozen=True, slots=True)
class Unwatch:
    """A watcher of the query log has gone."""

    number: int
    """Which it was."""


@dataclass(frozen=True, slots=True)
class Report:
    """Asks for `Figures`; a worker that does not answer hangs."""


@dataclass(frozen=True, slots=True)
class Leave:
    """Another worker goes on with the same sockets: answer what was received, and end."""

    seconds: float
    """For how long TCP connections that are in use may be served."""


@dataclass(frozen=True, slots=True)
class Serving:
    """The worker answers queries."""


@dataclass(frozen=True, slots=True)
class Done:
    """The worker answers from all zones of a `Changes`."""

    seconds: float
    """How much processor time that has taken."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What the worker has done since it began."""

    families: Families
    """The metrics of its resolver."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A line for the query log."""

    number: int
    """The watcher that wants it."""
    line: Line
    """The line."""
    skipped: Mapping[str, int]
    """How many lines were left out since the last one that was sent, by the environment of the client."""


ToWorker = Changes | Loaded | Watch | Unwatch | Report | Leave
FromWorker = Serving | Done | Figures | Seen


def packed(message: ToWorker | FromWorker) -> bytes:
    """``message`` as it is sent."""
    octets = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    return len(octets).to_bytes(_LENGTH, "big") + octets


async def receive(reader: asyncio.StreamReader) -> Any:
    """The next message. Raises ``EOFError`` where the other end has gone."""
    length = int.from_bytes(await reader.readexactly(_LENGTH), "big")
    return pickle.loads(await reader.readexactly(length))  # noqa: S301 from our own fork
