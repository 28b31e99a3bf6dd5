"""The feed: a host's agent tells the resolvers of its host which names there are, once there is a way to them.

    agent ──► resolver    coming <id> <revision> <document>    it is known, and the way to it is being made
                          ready <id> <revision>                there is a way to what was coming: answer it
                          serve <id> <revision> <document>     there is a way to this; what was coming still is
                          gone <id>
                          loaded                               that is all: what you were not told of does not exist

    resolver ──► agent    served <id> <revision>               to each `ready` and `serve`, in order: it is answered
                          refused <id> <revision>              or it cannot be read: what was answered still is

A line each, over a unix socket. Who connects is told all of it: what is ready, then what is coming.

What a resolver is owed is no queue but a difference, of what is true and what it was last told. So however many commits
come while one is slow, it costs a word an environment, and is told the newest alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import grp
import logging
import os
import socket
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from watcher.errors import FeedBroken, FeedUnusable
from zones import document
from zones.model import Environment
from zones.names import EnvironmentId

SOCKET = "names.sock"
SERVE_DEADLINE = 1.0  # seconds; a deploy does not wait longer for a resolver, which takes milliseconds when it is well
PATIENCE = 10.0  # seconds without the answer that is due; then a resolver is cut off, and delays no deploy any more

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Counts:
    """What has happened since the start, for metrics. ``unconfirmed`` are publications that not all have confirmed."""

    unconfirmed: int = 0
    cut_off: int = 0


@dataclass(slots=True)
class _State:
    """What is true of an environment. ``number`` tells publications apart, also those of one revision."""

    ready: Environment | None = None
    number: int = 0
    coming: Environment | None = None


class FeedServer:
    """Tells all who connect to the unix socket ``path``: members of ``group``, or of our own group where that is None.

    ``resolvers`` is how many there are.
    """

    def __init__(self, path: Path, group: str | None = None) -> None:
        self.counts = Counts()
        self.is_loaded = False
        self.states: dict[EnvironmentId, _State] = {}
        self._path = path
        self._group = group
        self._server: asyncio.Server | None = None
        self._sessions: dict[_Session, asyncio.Task[None]] = {}
        self._waiting: dict[EnvironmentId, dict[asyncio.Future[None], int]] = {}
        self._number = 0

    @property
    def resolvers(self) -> int:
        return len(self._sessions)

    async def start(self) -> None:
        """Listens. Raises `FeedUnusable`."""
        try:
            self._path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            group = -1 if self._group is None else grp.getgrnam(self._group).gr_gid
            if is_alive(self._path):
                raise FeedUnusable(f"an agent serves {self._path} already: stop it, or choose another --agent-dir")
            self._path.unlink(missing_ok=True)
            mask = os.umask(0o117)
            try:
                self._server = await asyncio.start_unix_server(self._accept, self._path)
            finally:
                os.umask(mask)
            os.chown(self._path, -1, group)
        except KeyError:
            raise FeedUnusable(
                f"there is no group {self._group!r}: create it, or choose another --agent-group"
            ) from None
        except OSError as error:
            await self.stop()
            reason = error.strerror or str(error)
            raise FeedUnusable(f"cannot listen on {self._path}: {reason}: choose another --agent-dir") from None

    async def stop(self) -> None:
        """Ends all connections. Resolvers go on with what they have."""
        if self._server:
            self._server.close()
            self._server = None
            self._path.unlink(missing_ok=True)
        tasks = list(self._sessions.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def announce(self, environment: Environment) -> None:
        """``environment`` is known, and will be published once there is a way to all that is in it."""
        self.states.setdefault(environment.id, _State()).coming = environment
        self._tell(environment.id)

    async def publish(self, environment: Environment) -> None:
        """Has ``environment`` be answered, and returns when it is, by all resolvers, or at the `SERVE_DEADLINE`.

        Only what was announced and not withdrawn since: else nothing happens.
        """
        state = self.states.get(environment.id)
        if state is None:
            return
        self._number += 1
        state.ready, state.number = environment, self._number
        if state.coming == environment:
            state.ready, state.coming = state.coming, None
        self._tell(environment.id)
        await self._answered(environment.id, state.number)

    def withdraw(self, id_: EnvironmentId) -> None:
        """``id_`` is gone."""
        if self.states.pop(id_, None):
            self._tell(id_)
            self.settle(id_)

    def loaded(self) -> None:
        """All that there is has been published."""
        self.is_loaded = True
        for session in self._sessions:
            session.wake()

    def settle(self, id_: EnvironmentId) -> None:
        """Ends the waiting of those whose publication of ``id_`` all resolvers have answered."""
        for waiting, number in self._waiting.get(id_, {}).items():
            if self._is_answered(id_, number) and not waiting.done():
                waiting.set_result(None)

    async def _answered(self, id_: EnvironmentId, number: int) -> None:
        if not self._is_answered(id_, number):
            waiting = asyncio.get_running_loop().create_future()
            self._waiting.setdefault(id_, {})[waiting] = number
            try:
                async with asyncio.timeout(SERVE_DEADLINE):
                    await waiting
            except TimeoutError:
                self.counts.unconfirmed += 1
            finally:
                del self._waiting[id_][waiting]
                if not self._waiting[id_]:
                    del self._waiting[id_]

    def _is_answered(self, id_: EnvironmentId, number: int) -> bool:
        return id_ not in self.states or all(session.answered(id_) >= number for session in self._sessions)

    def _tell(self, id_: EnvironmentId) -> None:
        for session in self._sessions:
            session.owe(id_)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        session = _Session(self, reader, writer)
        task = asyncio.create_task(session.run())
        self._sessions[session] = task
        task.add_done_callback(lambda _: self._ended(session))

    def _ended(self, session: _Session) -> None:
        del self._sessions[session]
        for id_ in list(self._waiting):
            self.settle(id_)


@dataclass(frozen=True, slots=True)
class _Told:
    """What a resolver knows of an environment: the number of what it answers, and what was last said to be coming."""

    number: int = 0
    coming: Environment | None = None


@dataclass(frozen=True, slots=True)
class _Question:
    """A `ready` or `serve` that is to be answered."""

    id: EnvironmentId
    revision: int
    number: int


@dataclass(eq=False, slots=True)
class _Session:
    """One resolver: what it was told, what it is owed, and which answers are due from it."""

    feed: FeedServer
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    _owed: dict[EnvironmentId, None] = field(default_factory=dict)
    _told: dict[EnvironmentId, _Told] = field(default_factory=dict)
    _asked: deque[_Question] = field(default_factory=deque)
    _answered: dict[EnvironmentId, int] = field(default_factory=dict)
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _timer: asyncio.TimerHandle | None = None

    async def run(self) -> None:
        """Tells and listens until either side ends it."""
        ready_first = sorted(self.feed.states, key=lambda id_: self.feed.states[id_].ready is None)
        self._owed = dict.fromkeys(ready_first)
        self.wake()
        try:
            async with asyncio.TaskGroup() as tasks:
                telling = tasks.create_task(self._tell())
                await self._listen()
                telling.cancel()
        except* OSError:
            pass  # it is gone
        except* (FeedBroken, ValueError) as errors:
            self._cut_off(str(errors.exceptions[0]))
        finally:
            self.writer.transport.abort()
            if self._timer:
                self._timer.cancel()
            with contextlib.suppress(OSError):
                await self.writer.wait_closed()

    def owe(self, id_: EnvironmentId) -> None:
        """What is true of ``id_`` has changed."""
        self._owed[id_] = None
        self.wake()

    def wake(self) -> None:
        """There is something to tell."""
        self._wake.set()

    def answered(self, id_: EnvironmentId) -> int:
        """The number of the last publication of ``id_`` that it has answered."""
        return self._answered.get(id_, 0)

    async def _tell(self) -> None:
        is_told_all = False
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._owed:
                id_ = next(iter(self._owed))
                del self._owed[id_]
                self.writer.writelines(self._lines(id_))
                await self.writer.drain()
                await asyncio.sleep(0)  # drain returns at once where there is room, and others have work to do
            if self.feed.is_loaded and not is_told_all:
                is_told_all = True
                self.writer.write(b"loaded\n")

    def _lines(self, id_: EnvironmentId) -> Iterator[bytes]:
        """What brings the resolver from what it was told of ``id_`` to what is true."""
        state, told = self.feed.states.get(id_), self._told.pop(id_, None)
        if told and (state is None or (told.number and not state.ready)):
            yield f"gone {id_}\n".encode()
            told = None
        if state is None:
            self._answered.pop(id_, None)
            return
        told = told or _Told()
        self._told[id_] = _Told(state.number, state.coming)
        if state.ready and state.number != told.number:
            self._ask(_Question(id_, state.ready.revision, state.number))
            if told.coming and told.coming is state.coming:
                yield _line("serve", state.ready)
            else:
                if told.coming is not state.ready:  # what was coming in its stead has been overtaken
                    yield _line("coming", state.ready)
                yield f"ready {id_} {state.ready.revision}\n".encode()
        if state.coming and told.coming is not state.coming:
            yield _line("coming", state.coming)

    def _ask(self, question: _Question) -> None:
        self._asked.append(question)
        if len(self._asked) == 1:
            self._expect()

    def _expect(self) -> None:
        """Gives the resolver time for the next answer that is due."""
        if self._timer:
            self._timer.cancel()
        late = f"no answer for {PATIENCE:g} s"
        self._timer = asyncio.get_running_loop().call_later(PATIENCE, self._cut_off, late) if self._asked else None

    async def _listen(self) -> None:
        while line := await self.reader.readline():
            if not self._asked:
                raise FeedBroken(f"it says {line!r} unasked")
            question = self._asked.popleft()
            self._expect()
            match line.decode("latin-1").split():
                case [("served" | "refused") as word, question.id, revision] if revision == str(question.revision):
                    self._note(question, word)
                case _:
                    raise FeedBroken(f"it says {line!r} of {question.id} {question.revision}")

    def _note(self, question: _Question, word: str) -> None:
        if word == "refused":
            self.feed.counts.unconfirmed += 1
            log.warning("resolver_refuses", extra={"environment": question.id, "revision": question.revision})
        if question.id in self._told:
            self._answered[question.id] = question.number
        self.feed.settle(question.id)

    def _cut_off(self, reason: str) -> None:
        self.feed.counts.cut_off += 1
        log.warning("resolver_cut_off", extra={"reason": reason})
        self.writer.transport.abort()


def _line(verb: str, environment: Environment) -> bytes:
    return f"{verb} {environment.id} {environment.revision} ".encode() + document.encode(environment) + b"\n"


def is_alive(path: Path) -> bool:
    """Whether somebody listens on the unix socket ``path``; else what is there was left by one that was killed."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True
