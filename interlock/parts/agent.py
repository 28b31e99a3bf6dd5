"""The agent of a host as parts of a process: it programs the mesh from the environments that the store holds.

store ──► watcher ──► mesh ──► feed ──► the resolvers of this host
▲                    │
└── acknowledger ◄───┘          registrar: keeps the host in the store        socket: attach and detach
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from agent.announce.acknowledger import Acknowledger
from agent.announce.barrier import Barrier
from agent.announce.handshakes import Handshakes
from agent.announce.notifier import Notifier
from agent.attach.attacher import Attacher
from agent.attach.attachments import Attachments
from agent.attach.comparison import Comparison
from agent.attach.connection import Connections
from agent.attach.inspection import Inspection
from agent.attach.record import InstanceRecords
from agent.attach.upkeep import Upkeep
from agent.control.client import CONTROL_SOCKET
from agent.control.operations import Operations
from agent.control.server import ControlServer
from agent.errors import AgentError
from agent.identity import load_identity
from agent.keys import Keyring
from agent.mesh.mesh import Mesh
from agent.registration import Registrar
from agent.system.host import HostSystem
from agent.system.netlink import Links
from agent.system.nftables import Firewall
from agent.system.veth import LINK_PREFIX, enable_forwarding
from agent.system.wireguard import choose
from interlock.errors import BadSetting, PartFailed
from interlock.parts.snapshot import snapshot_keeper, snapshot_parts
from interlock.process.state_dir import ATTACHMENTS
from interlock.process.supervise import Part, Run
from interlock.settings.table import AGENT, Settings
from store.clock import MEASURE_EVERY
from store.errors import Unavailable
from store.store import Store
from store.writer import Writer
from support.endpoints import AutoEndpoint
from watcher.feed.errors import FeedError
from watcher.feed.protocol import SOCKET as FEED_SOCKET
from watcher.feed.server import FeedServer
from watcher.guard import Guard
from watcher.watcher import Watcher
from zones.hosts import Hosts

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class HostSettings:
    """The settings that an agent cannot run without, checked to be there."""

    host: str
    """The id of this host."""
    endpoint: str | AutoEndpoint
    """Where other hosts reach this one's WireGuard, as they write it: ``192.0.2.1:51820``. Or it is found out."""
    directory: Path
    """Where the agent makes its sockets."""

    @classmethod
    def of(cls, settings: Settings) -> HostSettings:
        """Raises `BadSetting` where a setting is missing, and `PartFailed` where this user is not root."""
        if settings.host is None:
            raise BadSetting("which host is this? give --host or set INTERLOCK_HOST: its name cannot be an id")
        if settings.endpoint is None:
            raise BadSetting(
                "where do other hosts reach this one? give --endpoint ADDRESS:PORT, or --endpoint auto, or set"
                " INTERLOCK_ENDPOINT"
            )
        if settings.agent_dir is None:
            raise BadSetting("where are the agent's sockets to be? give --agent-dir or set INTERLOCK_AGENT_DIR")
        if os.geteuid():
            raise PartFailed("'interlock agent' changes the network of its host: run it as root")
        endpoint = settings.endpoint if isinstance(settings.endpoint, AutoEndpoint) else str(settings.endpoint)
        return cls(settings.host, endpoint, settings.agent_dir)


@dataclass(slots=True)
class AgentParts:
    """The agent of one host, part by part."""

    mesh: Mesh
    """Plans, applies and reads back what this host is to have."""
    watcher: Watcher
    """Learns the environments and the hosts from the store."""
    acknowledger: Acknowledger
    """Tells the store which revisions this host has programmed."""
    registrar: Registrar
    """Keeps this host registered in the store, and its lease renewed."""
    operations: Operations
    """Answers requests on the agent's socket: attach, detach, show the mesh, rotate the key, leave."""
    upkeep: Upkeep
    """Resumes attachments that were interrupted or have lost their link, and marks those of a draining host."""
    socket: ControlServer
    """The agent's socket."""
    left: asyncio.Event
    """Set once this host has left the mesh, which ends the agent."""

    @classmethod
    async def of(cls, settings: Settings, host: HostSettings, store: Store) -> AgentParts:
        """The agent that ``settings`` describe. Raises `PartFailed`."""
        with _as_part_failed():
            return await cls._of(settings, host, store)

    @classmethod
    async def _of(cls, settings: Settings, host: HostSettings, store: Store) -> AgentParts:
        platform, links, left = settings.platform, Links(), asyncio.Event()
        attachments = Attachments(settings.state_dir / ATTACHMENTS)
        attachments.load()
        keyring = Keyring(settings.state_dir)
        identity = await load_identity(
            store, keyring, host.host, host.endpoint, settings.region, behind_nat=settings.behind_nat
        )
        acknowledger, barrier = Acknowledger(store, identity.lease), Barrier(store)
        system = HostSystem(
            device_name=settings.device,
            mtu=await links.tunnel_mtu(identity.underlay),
            platform=platform,
            device=await choose(settings.wireguard, settings.device, links),
            links=links,
            firewall=Firewall(settings.device, LINK_PREFIX, platform.prefix, platform.infrastructure),
        )
        mesh = Mesh(
            identity=identity,
            platform=platform,
            system=system,
            notifier=Notifier(FeedServer(host.directory / FEED_SOCKET, settings.agent_group), acknowledger),
            handshakes=Handshakes(Barrier(store)),
            workloads=lambda: (*attachments.local_workloads(), *comparison.unattached_workloads()),
        )
        registrar = Registrar(identity, store, keyring, mesh, barrier, acknowledger)
        records, connections = (
            InstanceRecords(store, Writer(store, lease=identity.lease), identity),
            Connections(mesh, attachments),
        )
        attacher = Attacher(mesh, attachments, records, connections, barrier)
        comparison = Comparison(mesh, attacher)
        upkeep = Upkeep(mesh, attacher, comparison, Inspection(attacher))

        def take_hosts(hosts: Hosts) -> None:
            mesh.take_hosts(hosts)
            registrar.take_hosts(hosts)

        watcher = Watcher(
            store,
            platform,
            mesh,
            interest=identity.id,
            on_hosts=take_hosts,
            guard=Guard(settings.guard),
            on_confirmed=mesh.notifier.feed.confirm,
            snapshots=snapshot_keeper(AGENT, settings),
        )
        operations = Operations(
            mesh,
            attacher,
            registrar,
            upkeep,
            store,
            lambda: watcher.quarantined,
            lambda: watcher.guard.texts,
            left.set,
        )
        local = ControlServer(host.directory / CONTROL_SOCKET, operations.handle)
        return cls(mesh, watcher, acknowledger, registrar, operations, upkeep, local, left)

    @property
    def parts(self) -> tuple[Part, ...]:
        """The mesh starts before the watcher, which publishes to it; the socket comes last, when it can be asked."""
        return (
            Part("feed", self._feed),
            Part("mesh", self._keep_mesh),
            Part("acknowledger", _ready_at_once(self.acknowledger.run)),
            Part("watcher", _ready_at_once(self.watcher.run)),
            *snapshot_parts(self.watcher),
            Part("clock", _ready_at_once(self._keep_clock)),
            Part("registrar", _part_failed(self.registrar.run)),
            Part("attachments", _part_failed(self.upkeep.run)),
            Part("socket", self._listen),
        )

    async def _feed(self, ready: Callable[[], None]) -> None:
        try:
            await self.mesh.notifier.feed.start()
        except FeedError as error:
            raise PartFailed(str(error)) from None
        try:
            ready()
            await asyncio.Future()
        finally:
            await self.mesh.notifier.feed.stop()

    async def _keep_mesh(self, ready: Callable[[], None]) -> None:
        with _as_part_failed():
            if enable_forwarding():
                log.warning("forwarding_enabled", extra={"setting": "net.ipv6.conf.all.forwarding"})
            await self.mesh.run(ready)

    async def _keep_clock(self) -> None:
        clock = self.watcher.store.clock
        while True:
            with suppress(Unavailable):
                await clock.read()
                self.mesh.notifier.feed.set_ahead(clock.skew or 0.0)
            await asyncio.sleep(MEASURE_EVERY)

    async def _listen(self, ready: Callable[[], None]) -> None:
        with _as_part_failed():
            await self.socket.start()
        try:
            ready()
            await asyncio.Future()
        finally:
            await self.socket.stop()


def _ready_at_once(run: Callable[[], Awaitable[None]]) -> Run:
    # Such a part is never waited for: it keeps asking for an absent store by itself while the other parts work.
    async def start(ready: Callable[[], None]) -> None:
        ready()
        await run()

    return start


def _part_failed(run: Run) -> Run:
    async def start(ready: Callable[[], None]) -> None:
        with _as_part_failed():
            await run(ready)

    return start


@contextmanager
def _as_part_failed() -> Iterator[None]:
    """Turns an error that the agent foresaw into `PartFailed`, which is one line and no traceback."""
    try:
        yield
    except AgentError as error:
        raise PartFailed(str(error)) from None
