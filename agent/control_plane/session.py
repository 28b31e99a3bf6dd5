"""One session with one control plane: requests and their answers, and updates in between."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from itertools import count
from typing import Protocol

from aiohttp import ClientError, ClientWebSocketResponse, WSMsgType
from msgspec.structs import replace

from agent.control_plane.errors import BY_KIND, SessionLost, Unavailable
from watcher.session.errors import SessionBroken
from watcher.session.protocol import (
    REFUSED_CLOSE,
    VERSION,
    Answer,
    Failure,
    Hello,
    Request,
    Update,
    Welcome,
    decode_message,
    encode,
    split_messages,
)

SLICE = 200  # messages that are taken without a break; then the other tasks of the agent run


class Hears(Protocol):
    """Is told what the control plane says. It is called in the event loop, and must not take long."""

    def begin(self) -> None:
        """A session has begun: everything will be named again."""

    def take(self, update: Update) -> None:
        """The control plane has said ``update``."""

    def end(self) -> None:
        """The session has ended. What was said in it stays as it is."""


@dataclass(eq=False, slots=True)
class Session:
    """The session that goes over ``socket``."""

    socket: ClientWebSocketResponse
    """The connection."""
    hears: Hears
    """Is told of the beginning, the updates and the end."""
    welcome: Welcome | None = None
    """The answer to `Hello`; None before it came."""
    is_refused: bool = False
    """Whether the control plane has ended it because the credential of this host was ended."""
    _numbers: count[int] = field(default_factory=lambda: count(1))
    _pending: dict[int, asyncio.Future[Answer | Failure]] = field(default_factory=dict)
    _reason: str = ""  # why it has ended

    async def greet(self, incarnation: str, where: str) -> Welcome:
        """Begins the session. Raises `ControlPlaneError`."""
        answer = await self.ask(Hello(0, VERSION, incarnation, where))
        if not isinstance(answer, Welcome):
            raise Unavailable(f"it answered the first request with {answer}")
        return answer

    async def ask(self, request: Request) -> Answer:
        """The answer to ``request``, which is given a number. Raises `ControlPlaneError`, and `SessionLost`."""
        number = next(self._numbers)
        pending = self._pending[number] = asyncio.get_running_loop().create_future()
        try:
            if self.socket.closed or self._reason:
                raise SessionLost(self._reason or "the session has ended")
            await self.socket.send_bytes(encode(replace(request, number=number)))
            answer: Answer | Failure = await pending
        except (ClientError, OSError) as error:  # of a connection that is being closed
            raise SessionLost(str(error)) from None
        finally:
            del self._pending[number]
        if isinstance(answer, Failure):
            raise BY_KIND.get(answer.kind, Unavailable)(answer.text)
        return answer

    async def run(self) -> str:
        """Takes what comes until the session ends; returns why it did."""
        try:
            self._reason = await self._read()
        except (ClientError, OSError) as error:
            self._reason = str(error)
        except SessionBroken as error:
            self._reason = str(error)
        finally:
            self._reason = self._reason or "the session has ended"
            for pending in self._pending.values():
                if not pending.done():
                    pending.set_exception(SessionLost(self._reason))
            if self.welcome:
                self.hears.end()
        return self._reason

    async def close(self, reason: str) -> None:
        """Ends the session, because of ``reason``."""
        self._reason = self._reason or reason
        await self.socket.close()

    async def _read(self) -> str:
        taken = 0
        while True:
            message = await self.socket.receive()
            if message.type not in (WSMsgType.TEXT, WSMsgType.BINARY):
                self.is_refused = self.socket.close_code == REFUSED_CLOSE
                return self._reason or _why_closed(self.socket, message.extra if isinstance(message.extra, str) else "")
            for one in split_messages(message.data):
                self._take(one)
                taken += 1
                if taken % SLICE == 0:
                    await asyncio.sleep(0)

    def _take(self, read: bytes | str) -> None:
        message = decode_message(read)
        if message is None:
            return
        if not isinstance(message, Answer | Failure):
            self.hears.take(message)
            return
        if isinstance(message, Welcome) and self.welcome is None:
            self.welcome = message
            self.hears.begin()  # now, for updates may have come with it
        pending = self._pending.get(message.number)  # none for a request whose caller has given up
        if pending and not pending.done():
            pending.set_result(message)


def _why_closed(socket: ClientWebSocketResponse, text: str) -> str:
    if socket.close_code == REFUSED_CLOSE:
        return text or "the credential of this host was ended"
    if isinstance(error := socket.exception(), TimeoutError) or (error and "heartbeat" in str(error)):
        return "it has not answered for too long"
    return text or (str(error) if error else "it has closed the connection")
