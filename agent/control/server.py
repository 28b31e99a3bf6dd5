"""The control socket, for container runtimes and the command line: a line in and a line out are a JSON object each.

A client that may connect can do with this host's network whatever root can, so only root may connect.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from agent.control.requests import Request, parse
from agent.errors import AgentError, CannotStart, Failed
from support.unix_server import SocketInUse, UnixServer
from zones.document import encode_value

LONGEST_LINE = 1 << 20  # octets; the longest request is the one that lists all containers to keep

Handler = Callable[[Request], Awaitable[Mapping[str, Any]]]

log = logging.getLogger(__name__)


class ControlServer:
    """Answers requests on the unix socket ``path`` with what ``handle`` gives for them, or with its `AgentError`."""

    def __init__(self, path: Path, handle: Handler) -> None:
        self._path = path
        self._handle = handle
        self._server = UnixServer(path, self._serve, longest_line=LONGEST_LINE)

    async def start(self) -> None:
        """Starts to listen. Raises `CannotStart`."""
        try:
            await self._server.start()
        except SocketInUse:
            raise CannotStart(
                f"an agent listens on {self._path} already: stop it, or choose another --agent-dir"
            ) from None
        except OSError as error:
            raise CannotStart(f"cannot listen on {self._path}: {error.strerror}: choose another --agent-dir") from None

    async def stop(self) -> None:
        """Stops listening, and cancels the requests at work; returns when they have undone what they had begun."""
        await self._server.stop()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, ValueError):  # a client that went away, or a line that is too long
            while line := await reader.readline():
                writer.write(_encoder.encode(await self._answer(line)) + b"\n")
                await writer.drain()

    async def _answer(self, line: bytes) -> Mapping[str, Any]:
        try:
            return {"ok": True, **await self._handle(parse(line))}
        except AgentError as error:
            return {"ok": False, "kind": error.kind, "error": " ".join(str(error).split())}
        except Exception as error:
            log.error("request_failed", exc_info=error)
            return {"ok": False, "kind": Failed.kind, "error": "a fault of the agent: its log has the traceback"}


_encoder = msgspec.json.Encoder(enc_hook=encode_value)
