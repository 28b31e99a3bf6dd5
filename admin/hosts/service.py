"""The control plane's service for agents, put together: one object that the process starts and that its watcher feeds.

watcher ──► state ──► sessions ──► agents          agents ──► requests ──► store
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Collection, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field

from admin.hosts.app import HostsContext, hosts_app
from admin.hosts.authority import load_authority
from admin.hosts.certificates import Authority
from admin.hosts.counts import HostCounts
from admin.hosts.gathering import Gathering
from admin.hosts.judge import GRACE, LeaseJudge
from admin.hosts.limits import HostLimits
from admin.hosts.listener import RENEW_EVERY, Connections, HostsTls, serve
from admin.hosts.sessions import HostSessions
from admin.hosts.state import PlatformState
from admin.hosts.waits import Waits
from admin.lookups.hub import LookupHub
from store.errors import Unavailable
from store.store import Store
from store.writer import WriteCounter, Writer
from support.endpoints import Endpoint
from zones.quota import Quota

RETRY = 0.5  # seconds until the store is asked again for the authority
COMPARE_EVERY = 1.0  # seconds between two looks whether the store still has it: its absence is no deletion

log = logging.getLogger(__name__)


@dataclass(slots=True)
class HostsService:
    """Serves the agents of hosts, from what the watcher of this process learns."""

    store: Store
    """The store."""
    listen: Sequence[Endpoint]
    """Where it listens."""
    limits: HostLimits = field(default_factory=HostLimits)
    """How much agents may use."""
    commits: WriteCounter | None = None
    """Where commits are counted."""
    quota: Quota = field(default_factory=Quota)
    """How much environments may hold for which nothing else was set."""
    grace: float = GRACE
    """The seconds after the end of its lease for which a host still counts as there."""
    counts: HostCounts = field(default_factory=HostCounts)
    """Where the rest is counted."""
    state: PlatformState = field(default_factory=PlatformState)
    """What agents are sent. The watcher publishes to it."""
    lookups: LookupHub = field(default_factory=LookupHub)
    """Passes the look-ups of hosts to those who watch."""
    listening: list[Endpoint] = field(default_factory=list)
    """Where it listens, once it does: a port 0 was replaced by a free one."""
    sessions: HostSessions = field(init=False)
    """All sessions."""
    waits: Waits = field(init=False)
    """All waits for acknowledgements."""
    gathering: Gathering = field(init=False)
    """When instances are committed."""

    def __post_init__(self) -> None:
        self.sessions = HostSessions(self.store, self.limits, self.lookups)
        self.waits = Waits(self.store.acks, self.sessions.has)
        self.gathering = Gathering(self.state)
        self.lookups.expected = self.live_hosts

    async def run(self, ready: Callable[[], None]) -> None:
        """Serves until it is cancelled. Raises `support.listening.ListenError` and `BadAuthority`.

        It listens once the store has given the authority, without which no agent could be told from any other, and
        begins anew where the store has another one, as after an older copy of the data was brought back.
        """
        while True:
            authority = await self._authority(ready)
            await self._serve(authority, ready)

    def live_hosts(self, environment: str | None) -> Collection[str]:
        """The hosts that are not down, and have a member of ``environment`` if one is given."""
        hosts = self.state.hosts
        live = hosts.hosts.keys() - hosts.down
        return live if environment is None else live & self.state.members(environment)

    async def _serve(self, authority: Authority, ready: Callable[[], None]) -> None:
        """Serves until the store has another authority, or until cancelled."""
        tls = HostsTls(authority, _names(self.listen))
        connections = Connections(self.limits)
        context = HostsContext(
            self.store,
            Writer(self.store, self.commits, quota=self.quota),
            authority,
            self.state,
            self.sessions,
            self.waits,
            self.gathering,
            self.limits,
            self.counts,
        )
        async with AsyncExitStack() as stack:
            # An application of its own for each address: the library cannot serve one twice.
            self.listening = [
                await stack.enter_async_context(serve(hosts_app(context), endpoint, tls, connections, self.counts))
                for endpoint in self.listening or self.listen
            ]
            log.info("hosts_listening", extra={"addresses": [str(endpoint) for endpoint in self.listening]})
            judge = LeaseJudge(self.store.leases, self.grace)
            works = (self.sessions.run(), judge.run(), _renew(tls), self._until_replaced(authority))
            tasks = {asyncio.create_task(work) for work in works}
            try:
                ready()
                ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in ended:
                    task.result()
            finally:
                self.sessions.end_all("this control plane ends")
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _authority(self, ready: Callable[[], None]) -> Authority:
        reason = ""
        while True:
            try:
                return await load_authority(self.store)
            except Unavailable as error:
                if reason != (reason := str(error)):
                    log.warning("authority_not_read", extra={"reason": reason})
            ready()  # the other parts do not wait for the store
            await asyncio.sleep(RETRY)

    async def _until_replaced(self, authority: Authority) -> None:
        """Puts ``authority`` back where it vanishes from the store; returns when the store has another one."""
        while True:
            await asyncio.sleep(COMPARE_EVERY)
            with suppress(Unavailable):
                if await self.store.credentials.add_authority(authority.pem) != authority.pem:
                    log.warning("authority_replaced")
                    return


async def _renew(tls: HostsTls) -> None:
    while True:
        await asyncio.sleep(RENEW_EVERY)
        tls.renew()


def _names(listen: Sequence[Endpoint]) -> list[str]:
    """What people may call this control plane by; agents know it by the name that all have."""
    hosts = [endpoint.host for endpoint in listen if endpoint.host not in ("0.0.0.0", "::")]  # noqa: S104 compared
    with suppress(OSError):
        hosts.append(socket.gethostname())
    return [*hosts, "localhost", "127.0.0.1", "::1"]
