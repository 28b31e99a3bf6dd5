"""Gives the look-ups of this resolver to the agent of its host, while the agent asks for them.

The resolver connects to the agent's socket and waits. A line from the agent says which look-ups it wants, and how many
a second: ``{"filters": [{…}], "most": 100}``. From then on each look-up is a line, until another line from the agent
wants others or, with no filters, none. A line ``{"skipped": {"production": 3}}`` says how many were left out, by the
environment of their clients.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from resolver.querylog import Filter, GivesLines, Watch
from resolver.tail_server import make_filter

RETRY = 1.0  # seconds between two attempts to connect; an agent of an earlier release has no such socket
TOGETHER = 64  # lines that are written at once


@dataclass(slots=True)
class LookupGiver:
    """Gives the look-ups in ``log`` to whoever asks for them on the socket ``path``."""

    path: Path
    """The agent's socket for look-ups."""
    log: GivesLines
    """The look-ups of this resolver."""
    _watch: Watch | None = None

    async def run(self) -> None:
        """Gives what is asked for, until it is cancelled."""
        while True:
            with contextlib.suppress(OSError, EOFError, ValueError):
                reader, writer = await asyncio.open_unix_connection(self.path)
                try:
                    await self._serve(reader, writer)
                finally:
                    self._end_watch()
                    writer.close()
            await asyncio.sleep(RETRY)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked, giving = asyncio.create_task(reader.readline()), asyncio.create_task(self._give(writer))
        try:
            while True:
                await asyncio.wait({asked, giving}, return_when=asyncio.FIRST_COMPLETED)
                if giving.done():
                    giving.result()
                if not asked.done():
                    continue
                if not (line := asked.result()):
                    return
                giving.cancel()
                await asyncio.wait({giving})
                self._begin_watch(line)
                asked, giving = asyncio.create_task(reader.readline()), asyncio.create_task(self._give(writer))
        finally:
            for task in (asked, giving):
                task.cancel()
            await asyncio.gather(asked, giving, return_exceptions=True)

    def _begin_watch(self, line: bytes) -> None:
        """Watches what ``line`` asks for. Raises ``ValueError``."""
        filters, most = read_question(line)
        self._end_watch()
        if filters:
            self._watch = self.log.watch(*filters, most=most)

    def _end_watch(self) -> None:
        if self._watch:
            self.log.unwatch(self._watch)
            self._watch = None

    async def _give(self, writer: asyncio.StreamWriter) -> None:
        """Writes the lines of the watch for ever."""
        if (watch := self._watch) is None:
            await asyncio.Future()
            return
        while True:
            lines = await watch.get_some(TOGETHER)
            writer.write(b"".join(json.dumps(asdict(line)).encode() + b"\n" for line in lines))
            if watch.skipped:
                writer.write(json.dumps({"skipped": watch.skipped}).encode() + b"\n")
                watch.skipped.clear()
            await writer.drain()


def read_question(line: bytes) -> tuple[list[Filter], int]:
    """The filters, and how many lines a second, that ``line`` asks for. Raises ``ValueError``."""
    asked = json.loads(line)
    if not isinstance(asked, dict) or not isinstance(asked.get("filters"), list):
        raise ValueError("the agent asked for look-ups without filters")
    most = asked.get("most")
    if not isinstance(most, int) or most < 1:
        most = 1
    return [make_filter(one) for one in asked["filters"]], most
