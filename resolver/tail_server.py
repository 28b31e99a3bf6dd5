"""The socket of the query log: a watcher sends a filter as a line of JSON, and then gets lines."""

from __future__ import annotations

import asyncio
import contextlib
import difflib
import json
import re
from collections.abc import Callable, Collection
from dataclasses import asdict, fields
from pathlib import Path

from resolver.querylog import Filter, GivesLines
from resolver.wire.messages import Rcode
from support.text import shorten
from support.unix_server import UnixServer

LONGEST_VALUE = 1024  # characters of a field of a filter; a name has at most 1,004 in presentation form
NAMED = 5  # environments that an error names

_OTHER_RCODE = re.compile(r"RCODE[0-9]{1,4}")  # as lines name those that this program does not know


class TailServer:
    """Serves the query log on a Unix socket: a watcher sends a filter as a line of JSON, then gets lines."""

    def __init__(self, path: Path, log: GivesLines, environments: Callable[[], Collection[str] | None]) -> None:
        """``environments`` gives those whose clients are answered; None while not all of them are known."""
        self._log = log
        self._environments = environments
        self._server = UnixServer(path, self._serve)

    async def start(self) -> None:
        """Listens. The socket is for its owner only, for look-ups show which services talk to each other."""
        await self._server.start()

    async def stop(self) -> None:
        """Ends all connections."""
        await self._server.stop()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):  # the watcher has gone
            await self._send_lines(reader, writer)

    def _missing(self, asked: str | None) -> str:
        """That ``asked`` does not exist here, so that nothing would ever be shown; empty where it may."""
        known = self._environments()
        if asked is None or known is None or asked in known:
            return ""
        near = difflib.get_close_matches(asked, known, n=NAMED)
        some = sorted(known)[:NAMED]
        more = f" and {len(known) - len(some)} more" if len(known) > len(some) else ""
        advice = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(some) or 'none'}{more}"
        return f"this resolver answers for no environment {shorten(asked)!r}: {advice}"

    async def _send_lines(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            wanted = read_filter(await reader.readline())
        except ValueError as error:
            await _refuse(writer, f"not a filter: {error}")
            return
        if missing := self._missing(wanted.environment):
            await _refuse(writer, missing)
            return
        queue, skipped = self._log.watch(wanted), 0
        gone = asyncio.create_task(reader.read())
        try:
            while not gone.done():
                line = asyncio.create_task(queue.get())
                await asyncio.wait({line, gone}, return_when=asyncio.FIRST_COMPLETED)
                if not line.done():
                    line.cancel()
                    break
                writer.write(json.dumps(asdict(line.result())).encode() + b"\n")
                if (total := queue.skipped.total()) > skipped:
                    writer.write(json.dumps({"skipped": total - skipped}).encode() + b"\n")
                    skipped = total
                await writer.drain()
        finally:
            gone.cancel()
            self._log.unwatch(queue)


async def _refuse(writer: asyncio.StreamWriter, error: str) -> None:
    writer.write(json.dumps({"error": error}).encode() + b"\n")
    await writer.drain()


def read_filter(line: bytes) -> Filter:
    """The filter that a watcher has sent. Raises ``ValueError``, which says what is wrong with it.

    Every value is checked here, where the watcher learns of it: a filter is used between queries, which must not fail.
    """
    try:
        given = json.loads(line)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    return make_filter(given)


def make_filter(given: object) -> Filter:
    """The filter with the fields ``given``. Raises ``ValueError``, which says what is wrong with them."""
    if not isinstance(given, dict):
        raise ValueError("send an object, such as {}")
    known = {field.name for field in fields(Filter)}
    for name, value in given.items():
        if name not in known:
            raise ValueError(f"there is no field {name!r}: use {', '.join(sorted(known))}")
        is_switch = name in ("failed", "nodata", "ok")
        if not (isinstance(value, bool) if is_switch else value is None or isinstance(value, str)):
            raise ValueError(f"{name} is {value!r:.40}: write {'true or false' if is_switch else 'a text'}")
        if isinstance(value, str) and len(value) > LONGEST_VALUE:
            raise ValueError(f"{name} has {len(value)} characters: use at most {LONGEST_VALUE}")
    rcode = given.get("rcode")
    if rcode is not None and not (rcode.upper() in Rcode.__members__ or _OTHER_RCODE.fullmatch(rcode.upper())):
        raise ValueError(f"{rcode!r} is no rcode: use one of {', '.join(Rcode.__members__)}, or RCODE and its number")
    return Filter(**given)
