"""Whether a process is ready for what it is there for, part by part: what /readyz says."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from admin.resources.operations import Probe
from interlock.parts.names import Names
from interlock.process.supervise import Part, Supervisor
from store.errors import Unavailable
from store.store import Store
from watcher.feed.follower import Follower

if TYPE_CHECKING:
    from interlock.parts.agent import Agent

PING_EVERY = 1.0  # seconds; a load balancer should know before its clients do

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Contact:
    """Knows whether ``store`` answers, by asking; for a process without a watcher, which knows it anyway."""

    store: Store
    reason: str = "not asked yet"

    @property
    def part(self) -> Part:
        return Part("contact", self._ask)

    async def _ask(self, ready: Callable[[], None]) -> None:
        while True:
            try:
                await self.store.ping()
            except Unavailable as error:
                if self.reason != str(error):
                    log.warning("store_unavailable", extra={"reason": str(error)})
                self.reason = str(error)
            else:
                if self.reason:
                    log.info("store_connected", extra={"store": self.store.url})
                self.reason = ""
            ready()
            await asyncio.sleep(PING_EVERY)


@dataclass(frozen=True, slots=True)
class Readiness:
    """The probes of a process.

    A resolver (``names``) is ready once it has loaded, and stays so when the store, or the agent that it learns from,
    goes: its answers go on. What writes is ready while the store answers; ``is_writer`` says that this process does. An
    ``agent`` is ready while workloads can be attached to its host.
    """

    supervisor: Supervisor
    names: Names | None = None
    contact: Contact | None = None
    agent: Agent | None = None
    is_writer: bool = False

    def __call__(self) -> dict[str, Probe]:
        """Each part by name."""
        return dict(self._probes())

    def _probes(self) -> Iterator[tuple[str, Probe]]:
        for name in self.supervisor.restarts:
            yield name, Probe(name not in self.supervisor.down, "it has crashed and is about to be started again")
        if self.names:
            yield "names", Probe(self.names.resolver.is_loaded, f"not loaded yet: does {_source(self.names)} answer?")
        if self.names and self.is_writer:
            yield "contact", Probe(self.names.watcher.connected, "the store does not answer")
        if self.agent:
            yield "host", Probe(not self.agent.operations.obstacles, self.agent.operations.obstacles)
        if self.contact:
            yield "contact", Probe(not self.contact.reason, self.contact.reason)


def _source(names: Names) -> str:
    return "the agent of this host" if isinstance(names.watcher, Follower) else "the store"
