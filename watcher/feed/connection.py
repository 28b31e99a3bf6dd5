"""One resolver's connection: which messages bring the resolver from the state it was sent last to the current one.

The connection holds, for each environment, the last state that it has sent. A change only marks the environment. When
the socket can take more, the connection makes the messages out of the difference between the last state sent and the
state of that moment. So a slow resolver gets the newest revision, never a backlog: however many commits are made while
it is busy, they cost the agent one mark for each environment.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from watcher.feed.errors import FeedBroken
from watcher.feed.protocol import (
    Away,
    Change,
    Clock,
    Confirmed,
    Loaded,
    Pending,
    Ready,
    Refused,
    Reply,
    Serve,
    Update,
    Withdrawn,
    decode_reply,
    encode,
)
from zones import document, parts
from zones.model import Environment
from zones.names import EnvironmentId
from zones.placement import NONE_AWAY, HostsAway

REPLY_DEADLINE = 10.0  # seconds for each reply; then the resolver is cut off, so that no deploy waits for it any more

log = logging.getLogger(__name__)


@dataclass(slots=True)
class FeedCounts:
    """What has happened since the start, for metrics."""

    unconfirmed: int = 0
    """Publications that a resolver refused, or to which not all resolvers replied in time."""
    cut_off: int = 0
    """Connections that the agent closed, because the resolver did not reply or broke the protocol."""


@dataclass(slots=True)
class EnvironmentState:
    """What the resolvers should know of an environment."""

    ready: Environment | None = None
    """The revision that they should serve; None where there is none yet."""
    number: int = 0
    """The number of the publication of ``ready``. It grows with each, also if the revision is the same."""
    pending: Environment | None = None
    """The newest revision whose routes are still being made; None where there is none."""


@dataclass(slots=True)
class FeedState:
    """What all connections send from."""

    environments: dict[EnvironmentId, EnvironmentState] = field(default_factory=dict)
    """The state of each environment."""
    is_loaded: bool = False
    """Whether all environments that exist have been named."""
    has_confirmed: bool = False
    """Whether somebody has confirmed, since the agent started, that what has vanished is deleted. Resolvers that come
    later are told it too."""
    ahead: int = 0
    """By how many milliseconds this host's clock is ahead of the store's, as far as the resolvers should know."""
    away: HostsAway = NONE_AWAY
    """The hosts to which there is no path."""
    counts: FeedCounts = field(default_factory=FeedCounts)
    """Shared by all connections."""


@dataclass(frozen=True, slots=True)
class _Sent:
    """The state of an environment that was sent last."""

    number: int = 0
    """The number of the publication; 0 before the first."""
    pending: Environment | None = None
    """The revision that the resolver takes to be pending."""


@dataclass(frozen=True, slots=True)
class _DueReply:
    """A reply that the resolver still has to send."""

    id: EnvironmentId
    """The environment."""
    revision: int
    """The revision that the resolver is to serve."""
    number: int
    """The number of that publication."""


@dataclass(eq=False, slots=True)
class ResolverConnection:
    """Sends ``state`` to one resolver, and takes its replies."""

    state: FeedState
    """The state to send; the server changes it."""
    reader: asyncio.StreamReader
    """Where the replies come from."""
    writer: asyncio.StreamWriter
    """Where the messages go."""
    on_reply: Callable[[EnvironmentId], None]
    """Is called with the environment after each reply."""
    takes_differences: bool = False
    """Whether the resolver understands `Change`."""
    _changed: dict[EnvironmentId, None] = field(default_factory=dict)  # marked, in the order of their marks
    _sent: dict[EnvironmentId, _Sent] = field(default_factory=dict)
    _named: dict[EnvironmentId, Environment] = field(default_factory=dict)  # what was sent last as pending, unless bad
    _due_replies: deque[_DueReply] = field(default_factory=deque)
    _replied: dict[EnvironmentId, int] = field(default_factory=dict)  # the number of the last publication replied to
    _has_confirmed: bool = False  # whether the resolver has to be told that what has vanished is deleted
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _timer: asyncio.TimerHandle | None = None  # ends the connection at the deadline of the first due reply

    async def run(self) -> None:
        """Sends and receives until either side ends the connection."""
        environments, self._has_confirmed = self.state.environments, self.state.has_confirmed
        self._changed = dict.fromkeys(sorted(environments, key=lambda id_: environments[id_].ready is None))
        self.wake()
        try:
            async with asyncio.TaskGroup() as tasks:
                sending = tasks.create_task(self._send())
                await self._receive()
                sending.cancel()
        except* OSError:
            pass  # the resolver has gone
        except* (FeedBroken, ValueError) as errors:
            self._cut_off(str(errors.exceptions[0]))
        finally:
            self.writer.transport.abort()
            if self._timer:
                self._timer.cancel()
            with contextlib.suppress(OSError):
                await self.writer.wait_closed()

    def mark_changed(self, id_: EnvironmentId) -> None:
        """Notes that the state of ``id_`` has changed."""
        self._changed[id_] = None
        self.wake()

    def confirm(self) -> None:
        """Notes that the resolver is to withdraw what it holds on to, after all that is marked so far."""
        self._has_confirmed = True
        self.wake()

    def wake(self) -> None:
        """Makes the connection look whether there is something to send."""
        self._wake.set()

    def last_replied(self, id_: EnvironmentId) -> int:
        """The number of the last publication of ``id_`` that the resolver has replied to."""
        return self._replied.get(id_, 0)

    async def _send(self) -> None:
        is_loaded_sent, ahead_sent, away_sent = False, 0, NONE_AWAY
        while True:
            await self._wake.wait()
            # What was announced just now is ready by the next turn of the loop, where it takes no change of the host.
            # Then both go as one, and the resolver is woken once.
            await asyncio.sleep(0)
            self._wake.clear()
            if self.state.ahead != ahead_sent:
                ahead_sent = self.state.ahead
                self.writer.write(encode(Clock(ahead_sent)))
            if self.state.away != away_sent:  # before the environments, so that what is away is never answered
                away_sent = self.state.away
                self.writer.write(encode(Away(away_sent)))
            while self._changed:
                id_ = next(iter(self._changed))
                del self._changed[id_]
                self.writer.writelines(map(encode, self._updates(id_)))
                await self.writer.drain()
                await asyncio.sleep(0)  # drain returns at once while the buffer has space, and other tasks must run too
            if self.state.is_loaded and not is_loaded_sent:
                is_loaded_sent = True
                self.writer.write(encode(Loaded()))
            if self._has_confirmed and is_loaded_sent:
                self._has_confirmed = False
                self.writer.write(encode(Confirmed()))

    def _updates(self, id_: EnvironmentId) -> Iterator[Update]:
        """The messages that bring the resolver from what it was sent of ``id_`` to the current state."""
        state, sent = self.state.environments.get(id_), self._sent.pop(id_, None)
        if sent and (state is None or (sent.number and not state.ready)):
            yield Withdrawn(id_)
            sent = None
            self._named.pop(id_, None)
        if state is None:
            self._replied.pop(id_, None)
            return
        sent = sent or _Sent()
        self._sent[id_] = _Sent(state.number, state.pending)
        if state.ready and state.number != sent.number:
            self._expect_reply(_DueReply(id_, state.ready.revision, state.number))
            if sent.pending and sent.pending is state.pending:
                yield Serve(id_, state.ready.revision, document.encode(state.ready))
            else:
                if sent.pending is not state.ready:  # another revision has been published instead of the pending one
                    yield self._pending(state.ready)
                yield Ready(id_, state.ready.revision)
        if state.pending and sent.pending is not state.pending:
            yield self._pending(state.pending)

    def _pending(self, environment: Environment) -> Pending | Change:
        """That ``environment`` is pending."""
        id_, revision, before = environment.id, environment.revision, self._named.get(environment.id)
        if not self.takes_differences:
            return Pending(id_, revision, document.encode(environment))
        self._named[id_] = environment
        if before is None:
            return Pending(id_, revision, document.encode(environment))
        return Change(id_, revision, parts.encode(parts.difference(before, environment)))

    def _expect_reply(self, reply: _DueReply) -> None:
        self._due_replies.append(reply)
        if len(self._due_replies) == 1:
            self._set_timer()

    def _set_timer(self) -> None:
        """Gives the resolver `REPLY_DEADLINE` seconds for the next reply that is due, if any is."""
        if self._timer:
            self._timer.cancel()
            self._timer = None
        if self._due_replies:
            reason = f"no reply for {REPLY_DEADLINE:g} s"
            self._timer = asyncio.get_running_loop().call_later(REPLY_DEADLINE, self._cut_off, reason)

    async def _receive(self) -> None:
        while line := await self.reader.readline():
            reply = decode_reply(line)
            if not self._due_replies:
                raise FeedBroken(f"the resolver sent {reply}, and no reply was due")
            due = self._due_replies.popleft()
            self._set_timer()
            if (reply.id, reply.revision) != (due.id, due.revision):
                raise FeedBroken(f"the resolver sent {reply}, and the reply to {due.id} {due.revision} was due")
            self._note_reply(reply, due)

    def _note_reply(self, reply: Reply, due: _DueReply) -> None:
        if isinstance(reply, Refused):
            self.state.counts.unconfirmed += 1
            log.warning("resolver_refuses", extra={"environment": due.id, "revision": due.revision})
            self._named.pop(due.id, None)  # it has nothing that a difference could be applied to
        if due.id in self._sent:
            self._replied[due.id] = due.number
        self.on_reply(due.id)

    def _cut_off(self, reason: str) -> None:
        self.state.counts.cut_off += 1
        log.warning("resolver_cut_off", extra={"reason": reason})
        self.writer.transport.abort()
