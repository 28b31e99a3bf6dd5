"""Handshakes with new peers, begun before there is a packet to send, so that no first packet waits for one.

When two hosts begin a handshake within one round trip, each replaces its own by the other's, and nothing passes until
WireGuard begins again, 5 s later (Rekey-Timeout, the WireGuard paper, §6.1). Two workloads that start together and
connect to each other at once cause exactly that. So, of two hosts that are new to each other, only one begins, and
beforehand: the one behind NAT, which the other cannot reach, and else the host with the smaller key. It does so as soon
as the other one has acknowledged a revision that makes them peers.

A keepalive begins a handshake, too, and WireGuard begins none for 5 s after one that was lost. So a new peer gets its
keepalive only when its handshake is due.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field

from agent.announce.barrier import Barrier
from agent.control_plane.errors import ControlPlaneError
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
    _waiting: set[PublicKey] = field(default_factory=set)
    """The keys of the peers that may not have this host as a peer yet."""
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    """The waits under way, one for each new peer."""

    def schedule(
        self, me: Host, new_peers: Iterable[Host], environments: Iterable[Environment], wake: Callable[[], None]
    ) -> None:
        """Schedules a handshake with each of ``new_peers`` that the host ``me`` is the one to begin with.

        ``environments`` are those that ``me`` shares with them. ``wake`` is called when a handshake is due.
        """
        ours = {host.id: host for host in new_peers if begins(me, host)}
        for environment in environments:
            if not ours:
                break
            for id_ in ours.keys() & hosts_of(environment):
                self._waiting.add((host := ours.pop(id_)).public_key)
                task = asyncio.create_task(self._wait(host, environment, wake))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    def take_due(self) -> set[PublicKey]:
        """The keys of the peers to begin a handshake with now; each is returned once."""
        due, self._due = self._due, set()
        return due

    def begin(self, keys: Iterable[PublicKey]) -> None:
        """A handshake with each of the peers ``keys`` is due now, but for those that may not have this host yet."""
        self._due.update(key for key in keys if key not in self._waiting)

    @property
    def waiting(self) -> Collection[PublicKey]:
        """The keys of the peers whose handshake is not due yet."""
        return self._waiting

    def stop(self) -> None:
        """Ends all waits."""
        for task in self._tasks:
            task.cancel()

    async def _wait(self, host: Host, environment: Environment, wake: Callable[[], None]) -> None:
        try:
            with contextlib.suppress(ControlPlaneError):  # then the first packet waits for the handshake
                if not await self.barrier.wait(environment.id, environment.revision, [host.id]):
                    self._due.add(host.public_key)
        finally:
            self._waiting.discard(host.public_key)
            wake()


def begins(me: Host, other: Host) -> bool:
    """Whether it is for ``me`` to begin a handshake with ``other`` where both might."""
    if me.behind_nat != other.behind_nat:
        return me.behind_nat
    return me.public_key < other.public_key
