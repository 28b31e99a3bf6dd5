"""Shaking hands before there is anything to say, so that no first packet waits for it.

Where two hosts begin a handshake within a round trip, each takes the other's in the place of its own, and nothing
passes until WireGuard begins again, 5 s later (Rekey-Timeout, the WireGuard paper, §6.1). Workloads that start together
and look for each other at once do just that. So of two hosts that are new to each other one begins beforehand: the one
with the smaller key, as soon as the other has acknowledged a revision that makes them peers.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from agent.announce.barrier import Barrier
from store.errors import Unavailable
from zones.hosts import Host, hosts_of
from zones.keys import PublicKey
from zones.model import Environment


@dataclass(slots=True)
class Handshakes:
    """Knows which peers are to be greeted. ``barrier`` tells when one knows us."""

    barrier: Barrier
    _due: set[PublicKey] = field(default_factory=set)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def meet(
        self, me: Host, strangers: Iterable[Host], environments: Iterable[Environment], wake: Callable[[], None]
    ) -> None:
        """The hosts ``strangers`` are peers of ``me`` now, in ``environments``. ``wake`` is called when one is due."""
        ours = {host.id: host for host in strangers if me.public_key < host.public_key}
        for environment in environments:
            if not ours:
                break
            for id_ in ours.keys() & hosts_of(environment):
                task = asyncio.create_task(self._wait(ours.pop(id_), environment, wake))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    def take(self) -> set[PublicKey]:
        """Those that are to be greeted now, each once."""
        due, self._due = self._due, set()
        return due

    def stop(self) -> None:
        """Waits for nobody any more."""
        for task in self._tasks:
            task.cancel()

    async def _wait(self, host: Host, environment: Environment, wake: Callable[[], None]) -> None:
        with contextlib.suppress(Unavailable):  # then the first packet has to wait
            if not await self.barrier.wait(environment.id, environment.revision, [host.id]):
                self._due.add(host.public_key)
                wake()
