"""The agent's end of the feed: sends the resolvers of this host what they may answer, as the agent has routes to it.

    announce(environment)     the environment is known; its routes are being made
    publish(environment)      the routes are there; returns when all resolvers serve it
    withdraw(id)              the environment no longer exists here
    loaded()                  all environments have been named
    set_away(hosts)           to these hosts there is no path
    confirm()                 what has vanished is deleted, for somebody has said so

`watcher.feed.protocol` has the messages, `watcher.feed.connection` what each resolver is sent and when. Each connection
holds the last state sent, so a slow resolver gets the newest revision, never a backlog; and a resolver that connects is
sent everything.
"""

from __future__ import annotations

import asyncio
import grp
from pathlib import Path

from support.clock import MOST_SKEW
from support.unix_server import SocketInUse, UnixServer
from watcher.feed.connection import EnvironmentState, FeedCounts, FeedState, ResolverConnection
from watcher.feed.errors import FeedUnusable
from watcher.feed.protocol import understands_differences
from zones.model import Environment
from zones.names import EnvironmentId
from zones.placement import HostsAway

AHEAD_STEP = 1000  # milliseconds; a smaller change of a wrong clock is not told, for former names last for minutes
CONFIRM_DEADLINE = 1.0  # seconds; a deploy waits no longer for a resolver, which takes milliseconds when it is well


class FeedServer:
    """Serves the feed on the unix socket ``path``, to members of ``group`` (None: of the group of this process)."""

    def __init__(self, path: Path, group: str | None = None) -> None:
        self.state = FeedState()
        self._path = path
        self._group = group
        self._server = UnixServer(path, self._serve, mode=0o660)
        self._connections: set[ResolverConnection] = set()
        self._publishing: dict[EnvironmentId, dict[asyncio.Future[None], int]] = {}  # who waits for which publication
        self._last_number = 0

    @property
    def counts(self) -> FeedCounts:
        """What has happened since the start."""
        return self.state.counts

    @property
    def resolvers(self) -> int:
        """The number of resolvers that are connected."""
        return len(self._connections)

    async def start(self) -> None:
        """Listens. Raises `FeedUnusable`."""
        try:
            group = None if self._group is None else grp.getgrnam(self._group).gr_gid
            await self._server.start(group=group)
        except KeyError:
            raise FeedUnusable(
                f"there is no group {self._group!r}: create it, or choose another --agent-group"
            ) from None
        except SocketInUse:
            raise FeedUnusable(
                f"an agent serves {self._path} already: stop it, or choose another --agent-dir"
            ) from None
        except OSError as error:
            reason = error.strerror or str(error)
            raise FeedUnusable(f"cannot listen on {self._path}: {reason}: choose another --agent-dir") from None

    async def stop(self) -> None:
        """Ends all connections. The resolvers go on with what they have."""
        await self._server.stop()

    def announce(self, environment: Environment) -> None:
        """Tells the resolvers that ``environment`` will be published once there are routes to all that is in it."""
        self.state.environments.setdefault(environment.id, EnvironmentState()).pending = environment
        self._mark_changed(environment.id)

    async def publish(self, environment: Environment) -> None:
        """Has the resolvers serve ``environment``; returns when all have replied, or after `CONFIRM_DEADLINE` seconds.

        Does nothing unless the environment was announced, and not withdrawn since.
        """
        await self.until_served(environment.id, self.begin_to_publish(environment))

    def begin_to_publish(self, environment: Environment) -> int:
        """Like `publish`, but it returns at once, with a number for `until_served`."""
        state = self.state.environments.get(environment.id)
        if state is None:
            return 0
        self._last_number += 1
        state.ready, state.number = environment, self._last_number
        if state.pending == environment:
            state.ready, state.pending = state.pending, None
        self._mark_changed(environment.id)
        return state.number

    def withdraw(self, id_: EnvironmentId) -> None:
        """Tells the resolvers that the environment ``id_`` no longer exists here."""
        if self.state.environments.pop(id_, None):
            self._mark_changed(id_)
            self._note_reply(id_)

    def set_ahead(self, seconds: float) -> None:
        """Tells the resolvers by how much this host's clock is ahead of the store's, where that changes anything.

        A release that does not know the message does not need it: it is only sent where a clock is wrong.
        """
        ahead = round(seconds * 1000) if abs(seconds) > MOST_SKEW else 0
        if abs(ahead - self.state.ahead) > AHEAD_STEP or not ahead:
            self.state.ahead = ahead
            for connection in self._connections:
                connection.wake()

    def set_away(self, hosts: HostsAway) -> None:
        """Tells the resolvers that ``hosts``, and no others, have no path.

        A release that does not know the message ends the connection at it, and answers on: upgrade resolvers first.
        """
        if hosts != self.state.away:
            self.state.away = hosts
            for connection in self._connections:
                connection.wake()

    def loaded(self) -> None:
        """Tells the resolvers that all environments have been named."""
        self.state.is_loaded = True
        for connection in self._connections:
            connection.wake()

    def confirm(self) -> None:
        """Has the resolvers, also those that come later, withdraw what they hold on to and was not named."""
        self.state.has_confirmed = True
        for connection in self._connections:
            connection.confirm()

    async def until_served(self, id_: EnvironmentId, number: int) -> None:
        """Returns when all resolvers have replied to the publication ``number``; see `publish`."""
        if self._have_all_replied(id_, number):
            return
        waiting = asyncio.get_running_loop().create_future()
        self._publishing.setdefault(id_, {})[waiting] = number
        try:
            async with asyncio.timeout(CONFIRM_DEADLINE):
                await waiting
        except TimeoutError:
            self.counts.unconfirmed += 1
        finally:
            del self._publishing[id_][waiting]
            if not self._publishing[id_]:
                del self._publishing[id_]

    def _note_reply(self, id_: EnvironmentId) -> None:
        """Wakes each `publish` of ``id_`` to which all resolvers have replied, or for which no reply will come."""
        for waiting, number in self._publishing.get(id_, {}).items():
            if self._have_all_replied(id_, number) and not waiting.done():
                waiting.set_result(None)

    def _have_all_replied(self, id_: EnvironmentId, number: int) -> bool:
        return id_ not in self.state.environments or all(
            connection.last_replied(id_) >= number for connection in self._connections
        )

    def _mark_changed(self, id_: EnvironmentId) -> None:
        for connection in self._connections:
            connection.mark_changed(id_)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        takes_differences = understands_differences(writer.get_extra_info("peername"))
        connection = ResolverConnection(self.state, reader, writer, self._note_reply, takes_differences)
        self._connections.add(connection)
        try:
            await connection.run()
        finally:
            self._connections.discard(connection)
            for id_ in list(self._publishing):
                self._note_reply(id_)
