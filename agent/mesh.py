"""The mesh on this host: what is published comes in, and goes out as a tunnel, routes and a wall; only then as names.

    publish(zone)   ─►  announce to the resolvers: it is on its way
                    ─►  plan: what should this host be?                pure
                    ─►  diff: what is to be done?                      pure; nothing where nothing changed
                    ─►  apply: the wall, then the ways, then the peers
                    ─►  publish to the resolvers: now it may be answered
                    ─►  acknowledge to the store: this host has it

One pass at a time, and as many commits in it as have come since the last. What the system holds is read back and
compared a moment after each change, when the kernel says that somebody else was at it, and every few seconds anyway.

Until all environments have been loaded nothing is taken away: what an earlier agent has made goes on as it is.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from agent.announce.handshakes import Handshakes
from agent.announce.notifier import Notifier
from agent.attachment import LINK_PREFIX, Attachment
from agent.attachments import Attachments
from agent.errors import AgentError, Failed
from agent.identity import Identity
from agent.plan import peers as tunnel
from agent.plan import routes
from agent.plan.health import Health
from agent.plan.peers import Device, Tunnel
from agent.plan.plan import LocalWorkload, Shares, plan
from agent.plan.routes import Routes
from agent.plan.wanted import Peer, Rejection, Wanted
from agent.system import nftables
from agent.system.monitor import NetlinkMonitor
from agent.system.netlink import Links
from agent.system.nftables import Firewall, Ruleset
from store.hosts import Hosts
from zones.addresses import Platform
from zones.keys import PublicKey
from zones.model import Environment
from zones.names import EnvironmentId
from zones.zone import Zone

COMPARE_EVERY = 5.0  # seconds; how long a hand at the system that nothing announces can have its way
COMPARE_SHARE = 20  # comparing takes at most one twentieth of the time, however large the mesh
SETTLE = 0.5  # seconds after the last change of ours until it is read back: several are read back once
ALARM = 0.02  # seconds after somebody else's change: a flush by hand comes in several parts
RETRY_FIRST, RETRY_LAST = 0.2, 5.0  # seconds until a pass that failed is tried again

log = logging.getLogger(__name__)


@dataclass(slots=True)
class MeshCounts:
    """What has happened since the start, for metrics."""

    passes: int = 0
    steps: int = 0
    comparisons: int = 0
    repairs: int = 0
    failures: int = 0


@dataclass(frozen=True, slots=True)
class Actual:
    """The system as it was when it was last read, with what was done to it since."""

    firewall: Ruleset
    routes: Routes
    tunnel: Tunnel


@dataclass(slots=True)
class Mesh:
    """Keeps this host as the environments that are published to it and its attachments want it to be."""

    identity: Identity
    platform: Platform
    device_name: str
    mtu: int
    device: Device
    links: Links
    firewall: Firewall
    notifier: Notifier
    handshakes: Handshakes
    attachments: Attachments
    counts: MeshCounts = field(default_factory=MeshCounts)
    health: Health = field(default_factory=Health)
    environments: dict[EnvironmentId, Environment] = field(default_factory=dict)
    hosts: Hosts = field(default_factory=lambda: Hosts(0, {}, {}))
    rejected: tuple[Rejection, ...] = ()
    problem: str = "not started"
    is_loaded: bool = False
    actual: Actual | None = None
    _shares: Shares = field(default_factory=Shares)
    _fresh: dict[str, tuple[EnvironmentId, int]] = field(default_factory=dict)
    _is_removed: bool = False
    _endpoints: dict[PublicKey, str | None] | None = None
    _changed: set[EnvironmentId] = field(default_factory=set)
    _has_new_hosts: bool = False
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _compare_at: float = 0.0
    _compare_due: float = 0.0
    _waiting: list[asyncio.Future[None]] = field(default_factory=list)
    _remade: set[str] = field(default_factory=set)
    _strangers: set[PublicKey] = field(default_factory=set)
    _alarms: NetlinkMonitor | None = None

    @property
    def has_resolver(self) -> bool:
        """Whether there is somebody on this host to answer what there is a way to."""
        return self.notifier.feed.resolvers > 0

    # What is true: the watcher's publisher

    def publish(self, zone: Zone) -> None:
        """``zone`` is known; it is answered once there is a way to all that is in it."""
        self.environments[zone.id] = zone.environment
        self._changed.add(zone.id)
        self._settle_fresh(zone.id, zone.revision)
        self.notifier.announce(zone.environment)
        self._wake.set()

    def announce(self, zone: Zone) -> None:
        """What is only announced to us is not there yet for us either."""

    def withdraw(self, environment: EnvironmentId) -> None:
        """``environment`` is gone, or has nothing more on this host."""
        self.environments.pop(environment, None)
        self._changed.discard(environment)
        self._settle_fresh(environment)
        self.notifier.withdraw(environment)  # names first, then the way
        self._wake.set()

    def loaded(self) -> None:
        """All environments that have a member here are known."""
        self.is_loaded = True
        self._wake.set()

    def take_hosts(self, hosts: Hosts) -> None:
        """``hosts`` are all that are registered now."""
        self.hosts = hosts
        self._has_new_hosts = True
        self._wake.set()

    # What is here

    async def add_workload(self, attachment: Attachment, revision: int) -> None:
        """Returns when ``attachment``, committed at ``revision`` and with its link made, is reached on this host.

        Raises `Failed`.
        """
        known = self.environments.get(attachment.environment)
        if known is None or known.revision < revision:
            self._fresh[attachment.key] = (attachment.environment, revision)
        self._remade.add(attachment.link)
        await self.wait_until_applied()

    async def wait_until_applied(self) -> None:
        """Returns when the host is as it should be by all that is known now. Raises `Failed`."""
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        self._wake.set()
        await waiting

    def read_back_soon(self, delay: float = ALARM) -> None:
        """Has the system be read and compared ``delay`` seconds from now, if not before."""
        self._compare_at = min(self._compare_at, time.monotonic() + delay)
        self._wake.set()

    async def remove(self) -> None:
        """Takes away all that was made on this host. Raises `Failed`."""
        self._is_removed = True
        await self.device.remove()
        for interface in self.links.named(LINK_PREFIX):
            await self.links.remove(interface)
        await self.firewall.remove()  # last: until then nothing passes

    # The loop

    async def run(self, ready: Callable[[], None]) -> None:
        """Works until cancelled. What was made stays: connections outlive the agent.

        Raises `AgentError` where not even the first pass succeeds.
        """
        self._alarms = NetlinkMonitor(self.read_back_soon)
        self._alarms.start()
        try:
            await self._work(ready)
        finally:
            self._alarms.stop()
            self.notifier.stop()
            self.handshakes.stop()

    async def _work(self, ready: Callable[[], None]) -> None:
        delay, is_started = RETRY_FIRST, False
        while True:
            self._wake.clear()
            waiting, self._waiting = self._waiting, []
            try:
                await self._pass(is_asked=bool(waiting))
            except BaseException as error:
                self._failed(error, waiting)
                if not is_started or not isinstance(error, AgentError):
                    raise  # as it is set up, it cannot work here; or it is a fault of ours, which starts us anew
                await asyncio.sleep(delay)
                delay = min(delay * 2, RETRY_LAST)
                continue
            delay, is_started, self.problem = RETRY_FIRST, True, ""
            ready()
            for one in waiting:
                if not one.done():
                    one.set_result(None)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, self._compare_at - time.monotonic())):
                    await self._wake.wait()

    def _failed(self, error: BaseException, waiting: Iterable[asyncio.Future[None]]) -> None:
        reason = str(error) or type(error).__name__
        self.counts.failures += 1
        if self.problem != reason:  # once, not with every attempt
            log.error("mesh_failed", extra={"reason": reason})
        self.problem, self.actual = reason, None
        for one in waiting:
            if not one.done():
                one.set_exception(Failed(reason))

    async def _pass(self, *, is_asked: bool) -> None:
        if self._is_removed:
            return
        self.counts.passes += 1
        is_comparison = self.actual is None or time.monotonic() >= self._compare_at
        if is_comparison:
            await self._read()
        if not self.is_loaded:
            return
        changed, self._changed = self._changed, set()
        has_new_hosts, self._has_new_hosts = self._has_new_hosts, False
        # What there is a way to afterwards is what is planned now, not what will have come meanwhile.
        planned = [self.environments[id_] for id_ in changed if id_ in self.environments]
        revision = self.hosts.revision
        try:
            steps = await self._apply(self._plan())
        except BaseException:
            self._changed |= changed
            self._has_new_hosts |= has_new_hosts
            raise
        if is_comparison and steps and not (changed or has_new_hosts or is_asked):
            self.counts.repairs += 1
            log.warning("mesh_repaired", extra={"steps": steps})
        if steps:
            # Put off while one change follows another, but never beyond what is due anyway.
            self._compare_at = min(self._compare_due, time.monotonic() + SETTLE)
        if has_new_hosts:
            self.notifier.hosts(revision)
        self._meet()
        self.notifier.ready(environment for environment in planned if environment.id in self.environments)

    def _meet(self) -> None:
        strangers, self._strangers = self._strangers, set()
        if strangers:
            hosts = [host for host in self.hosts.hosts.values() if host.public_key in strangers]
            self.handshakes.meet(self.identity.host, hosts, self.environments.values(), self._wake.set)

    async def _read(self) -> None:
        """Reads what there is, and makes what nothing can be done without: first the wall, then the device."""
        started = time.monotonic()
        wall = await self.firewall.read()
        if wall is None or not self.firewall.is_intact(wall):
            if self.actual:
                self.counts.repairs += 1
                log.warning("firewall_repaired")
            await self.firewall.ensure()
            wall = await self.firewall.read()
        seen, there = await self._read_device()
        if (
            seen is None
            or not there.is_up
            or (seen.public_key, seen.port) != (self.identity.key.public, self.identity.port)
        ):
            if self.actual:
                self.counts.repairs += 1
                log.warning("device_repaired", extra={"device": self.device_name})
            await self.device.ensure(self.identity.key, self.identity.port, self.mtu)
            seen, there = await self._read_device()
        if wall is None or seen is None:
            raise Failed(f"the {'wall' if wall is None else 'device'} is gone as soon as it is made: who removes it?")
        self.actual = Actual(wall, there, seen)
        now = time.monotonic()
        self.health.note(seen.peers, now)
        self.counts.comparisons += 1
        self._compare_at = self._compare_due = now + max(COMPARE_EVERY, COMPARE_SHARE * (now - started))

    async def _read_device(self) -> tuple[Tunnel | None, Routes]:
        return await self.device.read(), await self.links.read(self.device_name, self.platform.prefix, LINK_PREFIX)

    def _plan(self) -> Wanted:
        self._shares.keep(self.environments)
        made = plan(
            self.environments, self.hosts.hosts, self.identity.host, self.platform, self._placed(), self._shares
        )
        for rejection in set(made.rejected) - set(self.rejected):
            log.error("rejected", extra={"what": rejection.what, "reason": rejection.reason})
        self.rejected = made.rejected
        return made.wanted

    def _placed(self) -> Iterable[LocalWorkload]:
        for attachment in self.attachments:
            if placed := attachment.local_workload(is_fresh=attachment.key in self._fresh):
                yield placed

    async def _apply(self, wanted: Wanted) -> int:
        """Does what is to be done, and gives the number of steps."""
        actual = self.actual
        assert actual is not None
        there = self._since_read(wanted, actual.routes)
        members = nftables.elements(wanted)
        changes = nftables.diff(members, actual.firewall.elements)
        moves = routes.diff(wanted, there)
        puts = tunnel.diff(wanted.peers, actual.tunnel, self._settled(wanted.peers))
        # With its first pass the agent cannot know whom the device had before.
        had = wanted.peers if self._endpoints is None else self._endpoints
        puts += tunnel.handshakes_with_lost_peers(wanted.peers, actual.tunnel, had)
        due = self.handshakes.take()
        puts += [tunnel.StartHandshake(key, peer.keepalive) for key, peer in wanted.peers.items() if key in due]
        # The wall first: it lets nothing through that has no way yet, and there is no moment with a way and no wall.
        await self.firewall.apply(changes)
        await self._move(moves)
        await self.device.apply(puts)
        if self._alarms and (changes or moves or puts):
            self._alarms.forget()
        self._strangers |= wanted.peers.keys() - had.keys()
        self._endpoints = {key: peer.endpoint for key, peer in wanted.peers.items()}
        self.actual = Actual(
            Ruleset(members, actual.firewall.rules, actual.firewall.drops) if changes else actual.firewall,
            routes.after(there, moves),
            tunnel.after(actual.tunnel, puts) if puts else actual.tunnel,
        )
        steps = len(changes) + len(moves) + len(puts)
        self.counts.steps += steps
        return steps

    def _settled(self, peers: Mapping[PublicKey, Peer]) -> set[PublicKey]:
        """Those of ``peers`` that answer, and register what they registered before."""
        before = self._endpoints or {}
        return {
            key
            for key, peer in peers.items()
            if self.health.answers(key) and before.get(key, peer.endpoint) == peer.endpoint
        }

    def _since_read(self, wanted: Wanted, there: Routes) -> Routes:
        """``there``, with the links of workloads that have come up since the system was read, or were made anew."""
        remade, self._remade = self._remade, set()
        missing = wanted.workloads.keys() - there.interfaces
        return replace(
            there,
            interfaces=there.interfaces | {interface for interface in missing if self.links.is_up(interface)},
            # A link that was made anew has lost its way with the one that we remember.
            workloads={link: address for link, address in there.workloads.items() if link not in remade},
        )

    async def _move(self, moves: Iterable[routes.RouteStep]) -> None:
        links, device = self.links, self.device_name
        macs = {attachment.link: attachment.macs[1] for attachment in self.attachments}
        for step in moves:
            match step:
                case routes.AddAddress(address):
                    await links.add_address(device, address)
                case routes.RemoveAddress(address):
                    await links.remove_address(device, address)
                case routes.RoutePrefix():
                    await links.route(str(self.platform.prefix), device)
                case routes.OpenWorkload(interface, address):
                    await links.know(str(address), macs[interface], interface)
                    await links.route(f"{address}/128", interface)
                case routes.CloseWorkload(interface, address):
                    await links.unroute(f"{address}/128", interface)

    def _settle_fresh(self, id_: EnvironmentId, revision: int | None = None) -> None:
        """What was committed up to ``revision`` is in the document that we have, or was removed again since."""
        for key, (environment, committed) in list(self._fresh.items()):
            if environment == id_ and (revision is None or committed <= revision):
                del self._fresh[key]
