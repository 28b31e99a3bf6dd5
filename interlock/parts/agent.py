"""The agent of a host as parts of a process: it programs the mesh from the environments that the control plane names.

control plane ──► follower ──► mesh ──► feed ──► the resolvers of this host
▲                              │
└──── acknowledger ◄───────────┘        registrar: keeps the host registered        socket: attach and detach
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from agent.announce.acknowledger import Acknowledger
from agent.announce.barrier import Barrier
from agent.announce.handshakes import Handshakes
from agent.announce.notifier import Notifier
from agent.attach.attacher import Attacher
from agent.attach.attachments import Attachments
from agent.attach.comparison import Comparison
from agent.attach.connection import Connections
from agent.attach.inspection import Inspection
from agent.attach.paths import Paths
from agent.attach.record import InstanceRecords
from agent.attach.upkeep import Upkeep
from agent.control.client import CONTROL_SOCKET
from agent.control.operations import Operations
from agent.control.server import ControlServer
from agent.control_plane.connection import ControlPlane
from agent.control_plane.errors import ControlPlaneError
from agent.errors import AgentError
from agent.examine.examiner import Examiner
from agent.examine.remote import RemoteExaminations
from agent.identity import load_identity
from agent.keys import Keyring
from agent.lookups import SOCKET as LOOKUPS_SOCKET
from agent.lookups import LookupRelay
from agent.mesh.mesh import Mesh
from agent.registration import Registrar
from agent.system.host import HostSystem
from agent.system.netlink import Links
from agent.system.nftables import Firewall
from agent.system.other_firewalls import OtherFirewalls
from agent.system.veth import LINK_PREFIX
from agent.system.wireguard import choose
from interlock.errors import PartFailed
from interlock.parts.snapshot import snapshot_keeper, snapshot_parts
from interlock.parts.this_host import HostSettings, connect
from interlock.process.state_dir import ATTACHMENTS
from interlock.process.supervise import Part, Run
from interlock.settings.table import AGENT, Settings
from watcher.feed.errors import FeedError
from watcher.feed.protocol import SOCKET as FEED_SOCKET
from watcher.feed.server import FeedServer
from watcher.guard import Guard
from watcher.session.follower import SessionFollower
from watcher.session.protocol import AskGone, Gone
from watcher.session.view import SessionView
from zones.hosts import Hosts
from zones.names import EnvironmentId

CLOCK_EVERY = 2.0  # seconds between two looks at how far this host's clock is from the store's

log = logging.getLogger(__name__)


@dataclass(slots=True)
class AgentParts:
    """The agent of one host, part by part."""

    mesh: Mesh
    """Plans, applies and reads back what this host is to have."""
    control_plane: ControlPlane
    """Speaks for this host to the control plane."""
    follower: SessionFollower
    """Learns the environments and the hosts from the control plane."""
    acknowledger: Acknowledger
    """Tells the control plane which revisions this host has programmed."""
    registrar: Registrar
    """Keeps this host registered, and its lease renewed."""
    operations: Operations
    """Answers requests on the agent's socket: attach, detach, show the mesh, rotate the key, leave."""
    upkeep: Upkeep
    """Resumes attachments that were interrupted or have lost their link, and marks those of a draining host."""
    lookups: LookupRelay
    """Passes look-ups of this host's resolvers to the control plane, while that asks for them."""
    socket: ControlServer
    """The agent's socket."""
    left: asyncio.Event
    """Set once this host has left the mesh, which ends the agent."""

    @classmethod
    async def of(cls, settings: Settings, host: HostSettings) -> AgentParts:
        """The agent that ``settings`` describe. Raises `PartFailed`."""
        with _as_part_failed():
            view = SessionView()
            control_plane, is_admitted = await connect(settings, host, view)
            try:
                return await cls._of(settings, host, view, control_plane, is_admitted=is_admitted)
            except BaseException:
                await control_plane.stop()
                raise

    @classmethod
    async def _of(
        cls,
        settings: Settings,
        host: HostSettings,
        view: SessionView,
        control_plane: ControlPlane,
        *,
        is_admitted: bool,
    ) -> AgentParts:
        platform, links, left = settings.platform, Links(), asyncio.Event()
        attachments = Attachments(settings.state_dir / ATTACHMENTS)
        attachments.load()
        keyring = Keyring(settings.state_dir)
        identity = await load_identity(
            control_plane,
            keyring,
            host.host,
            host.endpoint,
            settings.region,
            view.hosts.values(),
            is_admitted=is_admitted,
            behind_nat=settings.behind_nat,
        )
        acknowledger, barrier = Acknowledger(control_plane), Barrier(control_plane)
        system = HostSystem(
            device_name=settings.device,
            mtu=links.tunnel_mtu(identity.underlay),
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
            handshakes=Handshakes(Barrier(control_plane)),
            workloads=lambda: (*attachments.local_workloads(), *comparison.unattached_workloads()),
        )
        registrar = Registrar(identity, control_plane, keyring, mesh, barrier, acknowledger)
        attacher = Attacher(mesh, attachments, InstanceRecords(control_plane), Connections(mesh, attachments), barrier)
        attacher.history.wall_clock = control_plane.clock.now
        comparison = Comparison(mesh, attacher)
        firewalls = OtherFirewalls(settings.device, LINK_PREFIX)
        upkeep = Upkeep(mesh, attacher, comparison, Inspection(attacher), firewalls, Paths(mesh, attachments))

        def take_hosts(hosts: Hosts) -> None:
            mesh.take_hosts(hosts)
            registrar.take_hosts(hosts)

        async def ask_gone(ids: Collection[EnvironmentId]) -> Collection[EnvironmentId]:
            try:
                return (await control_plane.ask(AskGone(0, tuple(ids)), Gone)).environments
            except ControlPlaneError:
                return ()

        follower = SessionFollower(
            view,
            platform,
            mesh,
            take_hosts,
            ask_gone,
            on_confirmed=mesh.notifier.feed.confirm,
            wall_clock=control_plane.clock.now,
            snapshots=snapshot_keeper(AGENT, settings),
            guard=Guard(settings.guard),
        )
        examiner = Examiner(
            mesh,
            attacher,
            registrar,
            upkeep,
            control_plane,
            lambda: follower.quarantined,
            lambda: follower.held,
        )
        view.on_examine = RemoteExaminations(examiner, control_plane).take
        lookups = LookupRelay(control_plane, host.directory / LOOKUPS_SOCKET, settings.agent_group)
        view.on_watch = lookups.take_question
        lookups.take_question(view.watch)  # the session has begun already
        operations = Operations(
            mesh,
            attacher,
            registrar,
            upkeep,
            control_plane,
            lambda: follower.quarantined,
            lambda: follower.held,
            examiner,
            left.set,
        )
        local = ControlServer(host.directory / CONTROL_SOCKET, operations.handle)
        return cls(mesh, control_plane, follower, acknowledger, registrar, operations, upkeep, lookups, local, left)

    @property
    def parts(self) -> tuple[Part, ...]:
        """The mesh starts before the follower, which publishes to it; the socket comes last, when it can be asked."""
        return (
            Part("control_plane", _ready_at_once(self._keep_connection)),
            Part("feed", self._feed),
            Part("mesh", self._keep_mesh),
            Part("acknowledger", _ready_at_once(self.acknowledger.run)),
            Part("follower", _ready_at_once(self.follower.run)),
            *snapshot_parts(self.follower),
            Part("clock", _ready_at_once(self._keep_clock)),
            Part("registrar", _part_failed(self.registrar.run)),
            Part("attachments", _part_failed(self.upkeep.run)),
            Part("lookups", _ready_at_once(self.lookups.run)),
            Part("socket", self._listen),
        )

    async def _keep_connection(self) -> None:
        try:
            await self.control_plane.run()
        finally:
            await self.control_plane.stop()

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
            await self.mesh.run(ready)

    async def _keep_clock(self) -> None:
        while True:
            self.mesh.notifier.feed.set_ahead(self.control_plane.clock.skew or 0.0)
            await asyncio.sleep(CLOCK_EVERY)

    async def _listen(self, ready: Callable[[], None]) -> None:
        with _as_part_failed():
            await self.socket.start()
        try:
            ready()
            await asyncio.Future()
        finally:
            await self.socket.stop()


def _ready_at_once(run: Callable[[], Awaitable[None]]) -> Run:
    # Such a part is never waited for: it keeps trying an absent control plane while the other parts work.
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
