"""The mesh on this host: it turns published environments into firewall, routes and peers, and then has names answered.

Theory of operation
===================

**What it holds.** Wanted state: the newest document of each environment that has a member on this host, and all
registered hosts (`published`); and the workloads that are attached here, of which some are *fresh*: not in a published
document yet (`fresh`). Actual state: the firewall's sets, the routes, and the tunnel's peers (`status`). About the past
it remembers only which peers the last pass had, and which endpoint each of them had registered.

**What a pass does** (`reconcile`). A pass takes the steps from the actual to the wanted state:

    read       the system is read, where a read-back is due; a missing firewall or device is created
    plan       what should this host have?                          pure
    diff       which steps lead there?                              pure; none where nothing has changed
    apply      the firewall, then the routes, then the peers
    notify     the resolvers may answer what is reachable now; when they confirm it, it is acknowledged

**What triggers a pass** (`scheduler`). A published document or hosts; a workload that is attached or detached; a
handshake that is due; and a read-back: every 5 s, half a second after the agent's own last change, and 20 ms after the
kernel has announced that somebody else deleted something or changed nftables. One pass runs at a time, and it takes up
everything that has come since the one before: a thousand commits during one pass make one pass more.

**What holds at any moment.**

- No name before its path: a document is announced to the resolvers when it comes, and from then on they hold queries
  for the names that are new in it. They may answer these only after the pass that applied the document. When an
  environment is withdrawn, its names go at once, and its routes with the next pass.
- No route without the firewall: the firewall is created before the device, and its sets are changed before routes and
  peers are. When all is removed, it is removed last.
- What a pass reports as ready is what it planned, not what has been published meanwhile.
- Until all environments have been loaded, only the firewall's rules and the device itself are put right: the routes,
  peers and set members of an earlier agent stay as they are. So it is too until an agent that is new to this place has
  had the host's lease: it may be a copy, whose handshakes would draw the traffic of the live host to it.
- While they are known from a snapshot alone, because no control plane answers, what an earlier agent made stays
  beside what the snapshot plans (`agent.plan.retain`).
- The same input again leads to no step. The actual state is computed from the agent's own steps until the next
  read-back, and every difference that a read-back finds is corrected, whoever caused it.
- After a pass that failed, all of its changes are still to be made: the next attempt reads the system first. Whoever
  waits for the pass gets the reason. The first pass of an agent must succeed.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace

from agent.announce.handshakes import Handshakes
from agent.announce.notifier import Notifier
from agent.errors import AgentError
from agent.identity import Identity
from agent.mesh.fresh import FreshWorkloads
from agent.mesh.published import Published
from agent.mesh.reconcile import Reconciler
from agent.mesh.scheduler import MANUAL_CHANGE_DELAY, ReadBackTimer, Scheduler
from agent.mesh.status import Status
from agent.plan import routes
from agent.plan.plan import LocalWorkload
from agent.system.host import HostSystem
from agent.system.monitor import NetlinkMonitor
from zones.addresses import Platform
from zones.hosts import Hosts
from zones.names import EnvironmentId
from zones.placement import HostsAway
from zones.zone import Zone


class Mesh:
    """Keeps this host's firewall, routes and peers as the published environments and its own workloads need them.

    ``workloads`` gives the workloads that are attached now. The attributes are for reading.
    """

    def __init__(
        self,
        identity: Identity,
        platform: Platform,
        system: HostSystem,
        notifier: Notifier,
        handshakes: Handshakes,
        workloads: Callable[[], Iterable[LocalWorkload]],
    ) -> None:
        self.identity = identity
        self.platform = platform
        self.system = system
        self.notifier = notifier
        self.published = Published()
        self.status = Status()
        self._handshakes = handshakes
        self._fresh = FreshWorkloads()
        self._monitor = NetlinkMonitor(self.read_back_soon, system.firewall.is_as_left)
        timer = ReadBackTimer()
        self._scheduler = Scheduler(self._run_pass, timer, self.status)
        self._reconciler = Reconciler(
            identity=identity,
            platform=platform,
            system=system,
            workloads=workloads,
            published=self.published,
            fresh=self._fresh,
            notifier=notifier,
            handshakes=handshakes,
            monitor=self._monitor,
            read_back=timer,
            wake=self._scheduler.wake,
            status=self.status,
        )

    @property
    def has_resolver(self) -> bool:
        """Whether a resolver of this host is connected, which answers what the host can reach."""
        return self.notifier.feed.resolvers > 0

    # What the watcher publishes

    def publish(self, zone: Zone) -> None:
        """``zone`` is known; the resolvers may answer it once all its addresses can be reached."""
        self.published.put(zone.environment)
        self._fresh.remove_published(zone.id, zone.revision)
        self.notifier.announce(zone.environment)
        self._scheduler.wake()

    def announce(self, zone: Zone) -> None:
        """Does nothing: a host applies an environment when it is published."""

    def withdraw(self, environment: EnvironmentId) -> None:
        """``environment`` is gone, or has no member on this host any more."""
        self.published.remove(environment)
        self._fresh.remove_all(environment)
        self.notifier.withdraw(environment)  # the names first; the routes go with the next pass
        self._scheduler.wake()

    def restored(self, as_of: float) -> None:
        """What is published until `loaded` is from a snapshot that was current at the Unix time ``as_of``."""
        self.published.stale_since = as_of

    def source_away(self) -> None:
        """No control plane answers: this host is made as the snapshot has it, if there is one."""
        if self.published.stale_since is not None:
            self.published.is_loaded = True
            self._scheduler.wake()

    def loaded(self) -> None:
        """All environments that have a member on this host have been published."""
        self.published.is_loaded, self.published.stale_since = True, None
        self._scheduler.wake()

    def take_hosts(self, hosts: Hosts) -> None:
        """``hosts`` are all that are registered now."""
        self.published.set_hosts(hosts)
        self.notifier.away(self.away)  # at once, and not only after the next pass
        self._scheduler.wake()

    @property
    def away(self) -> HostsAway:
        """The hosts to which there is no path from here: those that are down, and those that do not answer."""
        silent = self.status.health.silent(time.monotonic())
        others = [host for host in self.published.hosts.hosts.values() if host.id != self.identity.id]
        # What is on this host itself is reached without any path, whatever the control plane knows of it.
        down = self.published.hosts.down - {self.identity.id}
        return HostsAway(down, frozenset(host.id for host in others if host.public_key in silent) - down)

    # What is attached

    def not_committed(self, link: str, environment: EnvironmentId) -> AbstractContextManager[None]:
        """While this is entered, the workload at ``link`` is reached though no document of ``environment`` has it.

        ``link`` is the host's end of its veth.
        """
        return self._fresh.uncommitted(link, environment)

    def committed(self, link: str, environment: EnvironmentId, revision: int) -> None:
        """The workload at ``link`` was committed at ``revision`` of ``environment``: it is reached from now on."""
        known = self.published.environments.get(environment)
        if known is None or known.revision < revision:
            self._fresh.add(link, environment, revision)

    async def add_workload(self, link: str) -> None:
        """Returns when this host reaches the workload at ``link``, which was created just now. Raises `Failed`."""
        self._reconciler.recreated_links.add(link)
        await self.wait_until_applied()

    async def wait_until_applied(self) -> None:
        """Returns when a pass has applied everything that is known now. Raises `Failed`."""
        await self._scheduler.wait_until_applied()

    @contextlib.contextmanager
    def removing(self, link: str) -> Iterator[None]:
        """The agent itself removes ``link`` meanwhile: what the kernel notifies of it is no manual change."""
        with self._monitor.expecting(self.system.links.index(link)):
            yield
        if actual := self.status.actual:
            self.status.actual = replace(actual, routes=routes.without(actual.routes, link))

    def begin_handshakes(self) -> None:
        """Begins a handshake with each peer, in the next pass."""
        if self.status.actual:
            self._handshakes.begin(self.status.actual.tunnel.peers)
        self._scheduler.wake()

    def address_changed(self) -> None:
        """Says that this host has another address: it sends each peer a packet, so that they answer to there."""
        self._reconciler.endpoints.forget()
        self.begin_handshakes()

    def read_back_soon(self, delay: float = MANUAL_CHANGE_DELAY) -> None:
        """Has the system read back ``delay`` seconds from now, if not before."""
        self._scheduler.read_back_soon(delay)

    # Start and end

    async def run(self, ready: Callable[[], None]) -> None:
        """Works until cancelled. What was made on the host stays: connections outlive the agent.

        Raises `AgentError` where the first pass fails.
        """
        self._monitor.start()
        is_started = False

        def started() -> None:
            nonlocal is_started
            is_started = True
            ready()

        try:
            await self._scheduler.run(started)
        except AgentError:
            if not is_started:
                with contextlib.suppress(AgentError):
                    await self.system.remove_made()
            raise
        finally:
            self._monitor.stop()
            self.notifier.stop()
            self._handshakes.stop()

    async def remove(self) -> None:
        """Removes everything that was made on this host. Raises `Failed`."""
        await self._reconciler.stop()
        await self.system.remove()

    async def _run_pass(self, is_requested: bool) -> None:
        try:
            await self._reconciler.run_pass(is_requested)
        finally:
            self.notifier.away(self.away)
