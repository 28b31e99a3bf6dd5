"""A session: the two clients of one server, which live and end together."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from store.client import abort, as_unavailable
from store.errors import Unavailable
from store.url import Address

MANY = 1_000_000  # more than there are: a server that was not asked yet


class Session:
    """The clients of one server, from their opening until the first failure.

    ``address`` is that which the Sentinels named; None where there are none.
    """

    def __init__(self, address: Address | None, commands: Any, blocking: Any) -> None:
        self.address = address
        self.commands = commands
        self.blocking = blocking
        self.failure = ""  # why it was ended; the commands that then fail are told this, and not how they failed
        self.followers = MANY  # replicas that follow this server itself, as of the last write that waits for all
        self._users = 0
        self._is_unused = asyncio.Event()
        self._is_unused.set()

    @contextmanager
    def used(self) -> Iterator[Session]:
        """While it is used, `close` waits."""
        self._users += 1
        self._is_unused.clear()
        try:
            yield self
        finally:
            self._users -= 1
            if not self._users:
                self._is_unused.set()

    async def close(self) -> None:
        """Makes the commands that wait for a reply fail, and closes all connections."""
        for client in (self.commands, self.blocking):
            abort(client)
        await self._is_unused.wait()
        for client in (self.commands, self.blocking):
            with suppress(Unavailable), as_unavailable(""):
                await client.connection_pool.aclose()
