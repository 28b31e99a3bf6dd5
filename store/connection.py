"""The connection to the server that holds the store: one server at a time, for commands and for reads that wait.

    find     where the server is: the URL says so, or Sentinels name it                   \
    open     two clients of it, whose every connection asks for the role first             }  a session
    end      at any failure both are closed, and the next command finds the server again  /

After a failover the server that was the primary may go on for a while as if nothing had happened. Two clients that
came back at different moments could so follow two servers. Hence they live and end together.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

from store.client import (
    CHECK_IT,
    Script,
    as_unavailable,
    check_role,
    find_wrong_key,
    forget_ended,
    is_wrong_type,
    open_client,
)
from store.errors import Refused, TooManyWaiting, Unavailable, Unreplicated, WrongKey
from store.finder import Electable, finder_of
from store.keys import Keys
from store.options import ALL, StoreOptions
from store.replication import position_of
from store.session import Session
from store.url import redact

MOST_CONNECTIONS = 50  # for commands; the server runs one command at a time, so more would only wait there
MOST_WAITING = 10_000  # commands that wait for a connection: some megabytes
WAIT_TIMEOUT = 8.0  # seconds that a command waits for a connection; the API gives up after ten
VERIFY_EVERY = 1.0  # seconds between two looks at the server's role, and at what the Sentinels say
REPLICATION_TIMEOUT = 1.0  # seconds in which replicas must confirm a write; below the timeout of a command


class Connection:
    """The connection to the server at ``url``, with the names of the keys there. Its first command opens it.

    ``timeout`` bounds the wait for the reply to a command, and ``blocking_timeout`` that of a read that waits for
    changes, both in seconds. Every failure becomes `Unavailable`.
    """

    def __init__(self, url: str, keys: Keys, options: StoreOptions, *, timeout: float, blocking_timeout: float) -> None:
        self.url = redact(url)
        self.keys = keys
        self.generation = 0
        """Grows with each session that has ended, and with each read that was cancelled while it waited for changes.
        What was read in an earlier one may be of another server."""
        self._options = options
        self._timeout = timeout
        self._blocking_timeout = blocking_timeout
        self._finder = finder_of(url, options)
        self._session: Session | None = None
        self._opening = asyncio.Lock()
        self._closing: set[asyncio.Task[None]] = set()
        self._slots = asyncio.Semaphore(MOST_CONNECTIONS)
        self._waiting = 0
        self._verified = 0.0

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Any]:
        """The ``redis.asyncio.Redis`` to send commands with. Raises `TooManyWaiting` where too many use it."""
        async with self._slot(), self._opened() as session:
            yield session.commands

    @asynccontextmanager
    async def blocking_client(self) -> AsyncIterator[Any]:
        """The ``redis.asyncio.Redis`` for reads that wait: no other command gets through until they end."""
        async with self._opened() as session:
            try:
                yield session.blocking
            except asyncio.CancelledError:
                # The library ends the connection, whose reply is still to come. That is no failure of the server, so
                # nothing else ends; but the next connection may be to another one.
                self.generation += 1
                forget_ended(session.blocking)
                raise

    async def read(self, script: Script, keys: Sequence[str], arguments: Sequence[Any] = ()) -> Any:
        """The reply of ``script``, which writes nothing."""
        async with self.client() as redis:
            return await script.run(redis, keys, arguments)

    async def write(self, script: Script, keys: Sequence[str], arguments: Sequence[Any] = ()) -> Any:
        """The reply of ``script``, after as many replicas as the options ask for have confirmed what it wrote.

        Raises `Unreplicated` if they have not, though the write was made.
        """
        if not self.waits:
            return await self.read(script, keys, arguments)
        write = self._write_to_all if self._options.wait == ALL else self._write_to_some
        reply, confirmed, wanted = await write(script, keys, arguments)
        if confirmed < wanted:
            raise Unreplicated(
                f"store {self.url}: the write was made, but {confirmed} of {wanted} replicas have confirmed it within"
                f" {REPLICATION_TIMEOUT:.0f} s, and a failover may lose it: read before you send it again"
            )
        return reply

    @property
    def waits(self) -> bool:
        """Whether a write counts as made only when replicas have confirmed it."""
        return self._options.wait != 0

    @property
    def confirmations(self) -> int:
        """How many replicas must be there at least, or no write is confirmed."""
        return 1 if self._options.wait == ALL else self._options.wait

    async def _write_to_some(
        self, script: Script, keys: Sequence[str], arguments: Sequence[Any]
    ) -> tuple[Any, int, int]:
        """The reply of ``script``, how many replicas have confirmed what it wrote, and how many must."""
        wanted = self._options.wait
        async with self._slot(), self._opened() as session:
            reply, _, confirmed = await script.run_and_wait(
                session.commands, keys, arguments, wanted, int(REPLICATION_TIMEOUT * 1000)
            )
        return reply, confirmed, wanted

    async def _write_to_all(
        self, script: Script, keys: Sequence[str], arguments: Sequence[Any]
    ) -> tuple[Any, int, int]:
        """The same for all replicas that may become the primary."""
        async with self._slot(), self._opened() as session:
            deadline = time.monotonic() + REPLICATION_TIMEOUT
            before = self._finder.electable
            # One that follows another replica confirms nothing to the primary: it is asked below, without a wait here.
            wanted = min(before.number, max(session.followers, 1))
            reply, replication, confirmed = await script.run_and_wait(
                session.commands, keys, arguments, wanted, int(REPLICATION_TIMEOUT * 1000)
            )
        # Meanwhile another server may have become the primary, or a replica may be up again.
        electable = (await self._look_again(session)).since(before)
        if replication:
            position = position_of(replication)
            session.followers = len(position.followers)
            # A WAIT tells how many have confirmed it, and not which. Where all that follow the primary have, and all
            # that may become the primary are among them, nobody need be asked.
            is_certain = electable.up <= position.followers and confirmed >= len(position.followers)
            if electable.up and not is_certain:
                confirmed = await self._finder.count_holding(electable.up, position, deadline)
        return reply, confirmed, electable.number

    async def _look_again(self, session: Session) -> Electable:
        """The replicas that there are now. Raises `Unreplicated` if ``session`` is with the primary no more."""
        try:
            address, _ = await self._finder.find()
        except Unavailable as error:
            raise Unreplicated(f"{error}; the write was made, and a failover may lose it: read it again") from None
        if address != session.address:
            failure = f"store {self.url}: the Sentinels name another server than the one that was followed"
            self._end(session, failure)
            raise Unreplicated(f"{failure}: the write may be lost, read before you send it again")
        return self._finder.electable

    async def verify(self, *, now: bool = False) -> None:
        """Returns if the server answers and is still the one to follow; ends the session if not.

        Unless ``now``, it asks at most every `VERIFY_EVERY` seconds. Without it nobody would notice a server that has
        become a replica, or that lives on though the Sentinels have made another one the primary.
        """
        if not now and time.monotonic() - self._verified < VERIFY_EVERY:
            return
        async with self.client() as redis:
            await check_role(redis, any_role=self._options.replicas)
            session = self._session
        if time.monotonic() - self._verified < VERIFY_EVERY:
            return
        if session and session.address and not await self._finder.is_current(session.address):
            failure = f"store {self.url}: the Sentinels name another server than the one that was followed"
            self._end(session, failure)
            raise Unavailable(failure)
        self._verified = time.monotonic()

    def end(self, reason: str) -> None:
        """Ends the session because of ``reason``: the next command finds the server again."""
        if self._session:
            self._end(self._session, f"store {self.url}: {reason}")

    async def close(self) -> None:
        """Closes all connections."""
        self.end("it was closed here")
        await asyncio.gather(*self._closing)
        await self._finder.close()

    @asynccontextmanager
    async def _slot(self) -> AsyncIterator[None]:
        if self._waiting >= MOST_WAITING:
            raise TooManyWaiting(f"store {self.url}: {MOST_WAITING} commands wait for it already")
        self._waiting += 1
        try:
            async with asyncio.timeout(WAIT_TIMEOUT):
                await self._slots.acquire()
        except TimeoutError:
            raise TooManyWaiting(f"store {self.url}: no connection was free within {WAIT_TIMEOUT:.0f} s") from None
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._slots.release()

    @asynccontextmanager
    async def _opened(self) -> AsyncIterator[Session]:
        session = await self._open()
        try:
            with session.used(), as_unavailable(self.url):
                yield session
        except WrongKey:
            raise
        except Refused as error:
            if is_wrong_type(error):
                await self._name_wrong_key(session, error)
            raise
        except Unavailable as error:
            self._end(session, str(error))
            raise Unavailable(session.failure) from error

    async def _name_wrong_key(self, session: Session, error: Refused) -> None:
        """Raises `WrongKey` if it is found out which key has the wrong type that ``error`` is about."""
        found = ""
        with suppress(Unavailable), as_unavailable(self.url):
            found = await find_wrong_key(session.commands, self.keys.types)
        if found:
            raise WrongKey(f"store {self.url}: {found}: {CHECK_IT}") from error

    async def _open(self) -> Session:
        if session := self._session:
            return session
        async with self._opening:
            if self._session is None:
                address, arguments = await self._finder.find()
                any_role = self._options.replicas
                self._session = Session(
                    address,
                    open_client(arguments, timeout=self._timeout, most=MOST_CONNECTIONS, any_role=any_role),
                    open_client(arguments, timeout=self._blocking_timeout, any_role=any_role, once=True),
                )
                self._verified = time.monotonic()
            return self._session

    def _end(self, session: Session, failure: str) -> None:
        if self._session is not session:
            return
        session.failure = failure
        self._session = None
        self.generation += 1
        closing = asyncio.create_task(session.close())
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)
