"""One pass: read the system, plan, diff, apply, notify. `Reconciler._run_pass` has the steps in this order.

It is the only code that changes the firewall, the device or the routes of a running agent.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from agent.announce.handshakes import Handshakes, begins
from agent.announce.notifier import Notifier
from agent.errors import Failed
from agent.identity import Identity
from agent.mesh.endpoints import Endpoints
from agent.mesh.fresh import FreshWorkloads
from agent.mesh.idle import IdlePeers
from agent.mesh.published import Published
from agent.mesh.scheduler import ReadBackTimer
from agent.mesh.status import Status
from agent.plan.firewall import LINK, Ruleset
from agent.plan.peers import StartHandshake, Tunnel
from agent.plan.plan import LocalWorkload, plan
from agent.plan.retain import retain
from agent.plan.routes import Routes
from agent.plan.shares import Shares
from agent.plan.steps import Actual, after, diff
from agent.plan.wanted import Peer, Wanted
from agent.system.host import HostSystem
from agent.system.monitor import NetlinkMonitor
from zones.addresses import Platform
from zones.keys import PublicKey

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Reconciler:
    """Makes this host as the published environments and its own workloads need it."""

    identity: Identity
    """This host, and its key."""
    platform: Platform
    """The platform's addresses."""
    system: HostSystem
    """What is read and changed."""
    workloads: Callable[[], Iterable[LocalWorkload]]
    """The workloads that are attached to this host now."""
    published: Published
    """The environments and hosts to apply."""
    fresh: FreshWorkloads
    """The workloads that no published document decides about yet."""
    notifier: Notifier
    """Passes on what has been applied."""
    handshakes: Handshakes
    """The handshakes to begin with new peers."""
    monitor: NetlinkMonitor
    """Notices manual changes; the agent's own are discarded from it."""
    read_back: ReadBackTimer
    """When the system is to be read."""
    wake: Callable[[], None]
    """Asks for another pass."""
    status: Status
    """Gets what the pass found."""
    recreated_links: set[str] = field(default_factory=set)
    """The host's ends of veths that were created since the last pass; a route to an earlier one is gone with it."""
    _shares: Shares = field(default_factory=Shares)
    """Each environment's share of the plan."""
    endpoints: Endpoints = field(default_factory=Endpoints)
    """Where the peers are."""
    _idle: IdlePeers = field(default_factory=IdlePeers)
    """Who is asked whether it is there."""
    _new_peers: set[PublicKey] = field(default_factory=set)
    """The peers that were added and whose handshakes are not scheduled yet."""
    _found: Actual | None = None
    """The system as an earlier agent had left it, while the environments are known from a snapshot alone; else None."""
    _is_stopped: bool = False
    """Whether passes do nothing any more, because everything on this host is being removed."""
    _under_way: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held during a pass."""

    async def run_pass(self, is_requested: bool) -> None:
        """Runs one pass. ``is_requested`` says that somebody waits for it. Raises `AgentError`."""
        async with self._under_way:
            if not self._is_stopped:
                await self._run_pass(is_requested)

    async def stop(self) -> None:
        """Returns when the pass under way has ended. Later ones do nothing: they would make again what is removed."""
        self._is_stopped = True
        async with self._under_way:
            pass

    async def _run_pass(self, is_requested: bool) -> None:
        self.status.counts.passes += 1
        is_read_back = self.status.actual is None or self.read_back.is_due(time.monotonic())
        if is_read_back:
            await self._read()
        if not (self.published.is_loaded and self.identity.is_admitted):
            return
        if self.published.stale_since is None:
            self._found = None
        elif self._found is None:
            self._found = self.status.actual
        # Taken before the plan: what is published during the pass is not in the plan, and must not be called ready.
        changes = self.published.take_changes()
        try:
            steps = await self._apply(self._plan())
        except BaseException:
            self.published.restore(changes)
            raise
        if is_read_back and steps and not (changes or is_requested):
            self.status.counts.repairs += 1
            log.warning("mesh_repaired", extra={"steps": steps})
        if steps:
            self.read_back.was_changed(time.monotonic())
        if changes.hosts_revision is not None:
            self.notifier.hosts_applied(changes.hosts_revision)
        self._schedule_handshakes()
        self.notifier.ready(one for one in changes.environments if one.id in self.published.environments)
        if is_read_back:
            await self._ask_idle_peers()

    # Read

    async def _read(self) -> None:
        """Reads the system, and creates what everything else needs: first the firewall, then the device."""
        started = time.monotonic()
        ruleset = await self._read_firewall()
        if self.system.enable_forwarding():
            # Nothing notifies of it: the settings of this host may be loaded anew at any time (sysctl --system).
            self.status.counts.repairs += self.status.actual is not None
            log.warning("forwarding_enabled", extra={"setting": "net.ipv6.conf.all.forwarding"})
        tunnel, routes = await self._read_device()
        if ruleset is None or tunnel is None:
            part = "firewall" if ruleset is None else "device"
            raise Failed(f"the {part} disappears as soon as it is created: which other program removes it?")
        drops = {**ruleset.drops, LINK: self.system.drops()}
        self.status.actual = Actual(replace(ruleset, drops=drops), routes, tunnel)
        now = time.monotonic()
        self.status.health.note(tunnel.peers, now)
        self.status.drops.note(drops, now)
        self.endpoints.note(tunnel.peers, self.status.health)
        self.status.counts.read_backs += 1
        self.read_back.was_read(started, now)

    async def _read_firewall(self) -> Ruleset | None:
        firewall = self.system.firewall
        ruleset = await firewall.read()
        if ruleset is None or not firewall.is_intact(ruleset):
            if self.status.actual:
                self.status.counts.repairs += 1
                log.warning("firewall_repaired")
            self.system.made_firewall |= ruleset is None
            # The rules let nothing pass between links without their group, and an earlier release gave links none.
            self.system.group_links(self.system.read_routes())
            await firewall.ensure()
            ruleset = await firewall.read()
        return ruleset

    async def _read_device(self) -> tuple[Tunnel | None, Routes]:
        system, identity = self.system, self.identity
        await system.follow_underlay(identity.underlay)
        tunnel, routes = await system.read_device()
        if (
            tunnel is None
            or not routes.is_up
            or routes.mtu != system.mtu
            or (tunnel.public_key, tunnel.port) != (identity.key.public, identity.port)
        ):
            if self.status.actual:
                self.status.counts.repairs += 1
                log.warning("device_repaired", extra={"device": system.device_name})
            system.made_device |= tunnel is None
            await system.device.ensure(identity.key, identity.port, system.mtu)
            if tunnel is not None:
                # It has lost its sessions where it was down, and its peers send to the port where it was for a moment.
                self.handshakes.begin(tunnel.peers)
            tunnel, routes = await system.read_device()
        elif routes.ungrouped:
            self.status.counts.repairs += 1
            log.warning("links_grouped", extra={"links": sorted(routes.ungrouped)})
        system.group_links(routes)
        await system.guard_device()
        return tunnel, routes

    # Plan

    def _plan(self) -> Wanted:
        environments, hosts = self.published.environments, self.published.hosts.hosts
        self._shares.retain(environments)
        workloads = [
            replace(workload, is_fresh=True) if workload.link in self.fresh else workload
            for workload in self.workloads()
        ]
        made = plan(environments, hosts, self.identity.host, self.platform, workloads, self._shares, self._owners)
        for rejection in set(made.rejected) - set(self.status.rejected):
            log.error("rejected", extra={"what": rejection.what, "reason": rejection.reason})
        self.status.rejected = made.rejected
        return retain(made.wanted, self._found) if self._found else made.wanted

    @property
    def _owners(self) -> Mapping[str, str]:
        """Whom each link was made for, but for those that were made since the system was read."""
        found = self.status.actual.routes.owners if self.status.actual else {}
        return {link: owner for link, owner in found.items() if link not in self.recreated_links}

    # Diff and apply

    async def _apply(self, wanted: Wanted) -> int:
        """Makes the system as ``wanted``, and returns the number of steps that this took."""
        assert self.status.actual is not None
        actual = replace(self.status.actual, routes=self._routes_now(wanted, self.status.actual.routes))
        earlier = self.endpoints.known(wanted.peers).keys()
        new = wanted.peers.keys() - earlier
        located = replace(wanted, peers=self._locate(wanted.peers, actual, new))
        stable = self.endpoints.stable(wanted.peers, actual.tunnel.peers, self.status.health)
        if self.identity.host.behind_nat:
            # The NAT passes nothing from there before something was sent.
            self.handshakes.begin(self.endpoints.moved(wanted.peers))
        due = self.handshakes.take_due()
        steps = diff(located, actual, stable, earlier, due)
        try:
            steps = await self.system.apply(steps, {workload.link: workload.mac for workload in self.workloads()})
        except BaseException:
            # The next pass may find their peers as they should be; a handshake more than needed does no harm.
            self.handshakes.begin(step.key for step in steps.peers if isinstance(step, StartHandshake))
            raise
        if steps:
            self.monitor.discard()
        self._new_peers |= new
        self.endpoints.applied(wanted.peers)
        self.status.actual = after(actual, steps, wanted)
        self.status.counts.steps += len(steps)
        return len(steps)

    def _locate(
        self, peers: Mapping[PublicKey, Peer], actual: Actual, new: Collection[PublicKey]
    ) -> Mapping[PublicKey, Peer]:
        """``peers`` as the device is to have them now: where they are, and no keepalive before its time."""
        located = self.endpoints.locate(peers, actual.tunnel.peers)
        if not self.identity.host.behind_nat:
            return located
        early = {*new, *self._new_peers, *self.handshakes.waiting}
        return {key: replace(peer, keepalive=0) if key in early else peer for key, peer in located.items()}

    def _routes_now(self, wanted: Wanted, routes: Routes) -> Routes:
        """``routes``, corrected for veths that came up or were created anew since the system was read."""
        recreated, self.recreated_links = self.recreated_links, set()
        missing = wanted.workloads.keys() - routes.links
        return replace(
            routes,
            links=routes.links | {link for link in missing if self.system.links.is_up(link)},
            workloads={
                link: address
                for link, address in routes.workloads.items()
                # One that got another address with its link kept has its former route still, which is to be removed.
                if link not in recreated or wanted.workloads.get(link) != address
            },
        )

    # Notify

    def _schedule_handshakes(self) -> None:
        new_peers, self._new_peers = self._new_peers, set()
        if new_peers:
            hosts = [host for host in self.published.hosts.hosts.values() if host.public_key in new_peers]
            self.handshakes.schedule(self.identity.host, hosts, self.published.environments.values(), self.wake)

    async def _ask_idle_peers(self) -> None:
        """Has hosts that have said nothing for long show that they are there. It changes nothing, so it is no step."""
        actual, published = self.status.actual, self.published.hosts
        if actual is None:
            return
        peers = actual.tunnel.peers
        hosts = {
            host.public_key: begins(self.identity.host, host)
            for host in published.hosts.values()
            if host.public_key in peers and host.id not in published.down
        }
        due = self._idle.due(hosts, self.handshakes.waiting, self.status.health, time.monotonic())
        await self.system.device.apply([StartHandshake(key, peers[key].keepalive) for key in due])
