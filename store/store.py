"""The store: what Redis or Valkey holds for us, one attribute for each kind of data. Nothing else speaks Redis."""

from __future__ import annotations

import time
from collections.abc import Callable

from store import changes
from store.acks import AckStore
from store.changes import ChangeStream
from store.clock import StoreClock
from store.connection import Connection
from store.credentials import CredentialStore
from store.deleted import DeletedStore
from store.environments import EnvironmentStore
from store.guard import GuardStore
from store.history import HistoryStore
from store.hosts import HostStore
from store.keys import DEFAULT_PREFIX, Keys
from store.leases import LeaseStore
from store.options import StoreOptions
from store.quotas import QuotaStore
from store.signins import SignInStore
from store.tokens import TokenStore

COMMAND_TIMEOUT = 2.0  # seconds; within what an API client waits, and far above any healthy reply


class Store:
    """A client of the store at ``url``. Every method, also of its parts, raises `Unavailable` if it cannot be reached.

    ``wall_clock`` is this machine's, in Unix seconds. Raises ``ValueError`` if ``url`` does not say how to reach a
    server.
    """

    def __init__(
        self,
        url: str,
        prefix: str = DEFAULT_PREFIX,
        options: StoreOptions | None = None,
        *,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.connection = Connection(
            url,
            Keys(prefix),
            options or StoreOptions(),
            timeout=COMMAND_TIMEOUT,
            blocking_timeout=changes.CHANGES_WAIT + changes.CHANGES_WAIT_MARGIN,
        )
        self.url = self.connection.url  # without its passwords
        self.clock = StoreClock(self.connection, wall_clock)
        self.environments = EnvironmentStore(self.connection, whole=options.whole if options else False)
        self.changes = ChangeStream(self.connection)
        self.hosts = HostStore(self.connection)
        self.leases = LeaseStore(self.connection)
        self.acks = AckStore(self.connection)
        self.credentials = CredentialStore(self.connection)
        self.tokens = TokenStore(self.connection)
        self.history = HistoryStore(self.connection)
        self.sign_ins = SignInStore(self.connection)
        self.quotas = QuotaStore(self.connection)
        self.deleted = DeletedStore(self.connection, self.clock)
        self.guard = GuardStore(self.connection)

    async def close(self) -> None:
        """Closes the connection."""
        self.environments.aside.close()
        await self.connection.close()

    async def ping(self) -> None:
        """Returns when the store has answered, and is the primary unless a replica will do."""
        await self.connection.verify(now=True)

    async def begin_rewrite(self) -> None:
        """Has the server begin to write its append-only file anew, from what it holds now."""
        async with self.connection.client() as redis:
            await redis.bgrewriteaof()

    async def is_rewriting(self) -> bool:
        """Whether the server writes its append-only file anew, or is about to."""
        async with self.connection.client() as redis:
            info = await redis.info("persistence")
        return bool(info["aof_rewrite_in_progress"] or info["aof_rewrite_scheduled"])
