"""Handshakes with new peers, begun before there is a packet to send, so that no first packet waits for one.

When two hosts begin a handshake within one round trip, each replaces its own by the other's, and nothing passes until
WireGuard begins again, 5 s later (Rekey-Timeout, the WireGuard paper, §6.1). Two workloads that start together and
connect to each other at once cause exactly that. So, of two hosts that are new to each other, only one begins, and
beforehand: the host with the smaller key, as soon as the other one has acknowledged a revision that makes them peers.
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
    """The handshakes that this host is to begin."""

    barrier: Barrier
    """Waits until the other host has this one as a peer."""
    _due: set[PublicKey] = field(default_factory=set)
    """The keys of the peers that have this host as a peer by now, and wait for its handshake."""
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    """The waits under way, one for each new peer."""

    def schedule(
        self, me: Host, new_peers: Iterable[Host], environments: Iterable[Environment], wake: Callable[[], None]
    ) -> None:
        """Schedules a handshake with each of ``new_peers`` that the host ``me`` is the one to begin with.

        ``environments`` are those that ``me`` shares with them. ``wake`` is called when a handshake is due.
        """
        ours = {host.id: host for host in new_peers if me.public_key < host.public_key}
        for environment in environments:
            if not ours:
                break
            for id_ in ours.keys() & hosts_of(environment):
                task = asyncio.create_task(self._wait(ours.pop(id_), environment, wake))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    def take_due(self) -> set[PublicKey]:
        """The keys of the peers to begin a handshake with now; each is returned once."""
        due, self._due = self._due, set()
        return due

    def stop(self) -> None:
        """Ends all waits."""
        for task in self._tasks:
            task.cancel()

    async def _wait(self, host: Host, environment: Environment, wake: Callable[[], None]) -> None:
        with contextlib.suppress(Unavailable):  # then the first packet waits for the handshake
            if not await self.barrier.wait(environment.id, environment.revision, [host.id]):
                self._due.add(host.public_key)
                wake()
