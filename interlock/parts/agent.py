"""The agent of a host, put together from its parts: what is true comes in from the store, and goes out as a mesh.

store ──► watcher ──► mesh ──► feed ──► the resolvers of this host
▲                    │
└── acknowledger ◄───┘          registrar: keeps the host in the store        socket: attach and detach
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from agent.announce.acknowledger import Acknowledger
from agent.announce.barrier import Barrier
from agent.announce.handshakes import Handshakes
from agent.announce.notifier import Notifier
from agent.attach.attacher import Attacher
from agent.attach.connection import Connections
from agent.attach.record import InstanceRecords
from agent.attach.upkeep import Upkeep
from agent.attachment import LINK_PREFIX
from agent.attachments import Attachments
from agent.control.client import SOCKET
from agent.control.operations import Operations
from agent.control.server import ControlServer
from agent.errors import AgentError
from agent.mesh import Mesh
from agent.registration import Keyring, Registrar, load_identity
from agent.system.netlink import Links
from agent.system.nftables import Firewall
from agent.system.veth import enable_forwarding
from agent.system.wireguard import choose
from interlock.errors import BadSetting, PartFailed
from interlock.observe import logs
from interlock.observe.metrics import Metrics, Sources
from interlock.observe.readiness import Readiness
from interlock.parts.api import operations_part
from interlock.process.lifecycle import require_store, run_until_told, serve
from interlock.process.state_dir import ATTACHMENTS, make_state_directory
from interlock.process.supervise import Part, Supervisor
from interlock.settings.table import Settings
from store.hosts import Hosts
from store.store import Store
from store.writer import Writer
from watcher.errors import FeedError
from watcher.feed.server import SOCKET as FEED_SOCKET
from watcher.feed.server import FeedServer
from watcher.watcher import Watcher

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Setup:
    """What an agent cannot do without, of the settings. ``endpoint`` as other hosts write it."""

    host: str
    endpoint: str
    directory: Path

    @classmethod
    def of(cls, settings: Settings) -> Setup:
        """Raises `BadSetting` where something is missing, and `PartFailed` where this user may not do it."""
        if settings.host is None:
            raise BadSetting("which host is this? give --host or set INTERLOCK_HOST: its name cannot be an id")
        if settings.endpoint is None:
            raise BadSetting(
                "where do other hosts reach this one? give --endpoint ADDRESS:PORT or set INTERLOCK_ENDPOINT"
            )
        if settings.agent_dir is None:
            raise BadSetting("where are the agent's sockets to be? give --agent-dir or set INTERLOCK_AGENT_DIR")
        if os.geteuid():
            raise PartFailed("'interlock agent' changes the network of its host: run it as root")
        return cls(settings.host, str(settings.endpoint), settings.agent_dir)


@dataclass(slots=True)
class Agent:
    """All parts of the agent of one host. ``left`` is set once it has left the mesh and is to end."""

    mesh: Mesh
    watcher: Watcher
    acknowledger: Acknowledger
    registrar: Registrar
    operations: Operations
    upkeep: Upkeep
    socket: ControlServer
    left: asyncio.Event

    @classmethod
    async def of(cls, settings: Settings, setup: Setup, store: Store) -> Agent:
        """The agent that ``settings`` call for. Raises `PartFailed`."""
        with _as_part_failed():
            return await cls._of(settings, setup, store)

    @classmethod
    async def _of(cls, settings: Settings, setup: Setup, store: Store) -> Agent:
        platform, links, left = settings.platform, Links(), asyncio.Event()
        attachments = Attachments(settings.state_dir / ATTACHMENTS)
        attachments.load()
        keyring = Keyring(settings.state_dir)
        identity = await load_identity(store, keyring, setup.host, setup.endpoint, settings.region)
        acknowledger, barrier = Acknowledger(store, identity.id), Barrier(store)
        mesh = Mesh(
            identity=identity,
            platform=platform,
            device_name=settings.device,
            mtu=await links.tunnel_mtu(identity.underlay),
            device=await choose(settings.wireguard, settings.device, links),
            links=links,
            firewall=Firewall(settings.device, LINK_PREFIX, platform.infrastructure),
            notifier=Notifier(FeedServer(setup.directory / FEED_SOCKET, settings.agent_group), acknowledger),
            handshakes=Handshakes(Barrier(store)),
            attachments=attachments,
        )
        registrar = Registrar(identity, store, keyring, mesh, barrier, acknowledger)
        records, connections = InstanceRecords(store, Writer(store), identity), Connections(mesh, attachments)
        attacher = Attacher(mesh, attachments, records, connections, barrier)

        def take_hosts(hosts: Hosts) -> None:
            mesh.take_hosts(hosts)
            registrar.take_hosts(hosts)

        watcher = Watcher(store, platform, mesh, interest=identity.id, on_hosts=take_hosts)
        operations = Operations(mesh, attacher, registrar, store, lambda: watcher.quarantined, left.set)
        local = ControlServer(setup.directory / SOCKET, operations.handle)
        return cls(mesh, watcher, acknowledger, registrar, operations, Upkeep(mesh, attacher), local, left)

    @property
    def parts(self) -> tuple[Part, ...]:
        """The mesh before the watcher, which tells it what to be; the socket last, when there is something to ask."""
        return (
            Part("feed", self._feed),
            Part("mesh", self._keep_mesh),
            Part("acknowledger", _ready_at_once(self.acknowledger.run)),
            Part("watcher", _ready_at_once(self.watcher.run)),
            Part("registrar", _named(self.registrar.run)),
            Part("attachments", _named(self.upkeep.run)),
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

    async def _listen(self, ready: Callable[[], None]) -> None:
        with _as_part_failed():
            await self.socket.start()
        try:
            ready()
            await asyncio.Future()
        finally:
            await self.socket.stop()


def run_agent(settings: Settings) -> None:
    """The agent of this host, until a signal or its leave ends it. Raises `InterlockError` where it cannot start."""
    url = require_store(settings, "agent")
    setup = Setup.of(settings)
    logs.configure(settings.log_level, settings.log_format)
    make_state_directory(settings.state_dir)
    run_until_told(_run(settings, setup, url))


async def _run(settings: Settings, setup: Setup, url: str) -> None:
    store = Store(url, settings.redis_prefix)
    agent = await Agent.of(settings, setup, store)
    supervisor = Supervisor(list(agent.parts))
    if settings.ops_listen:
        metrics = Metrics(Sources(supervisor, agent=agent))
        readiness = Readiness(supervisor, agent=agent)
        supervisor.parts.append(operations_part(settings.ops_listen, readiness, metrics).part)
    await serve(supervisor, store, until=agent.left)


def _ready_at_once(run: Callable[[], Awaitable[None]]) -> Callable[[Callable[[], None]], Awaitable[None]]:
    # It goes on asking for a store that is away; what there is goes on meanwhile.
    async def start(ready: Callable[[], None]) -> None:
        ready()
        await run()

    return start


def _named(run: Callable[[Callable[[], None]], Awaitable[None]]) -> Callable[[Callable[[], None]], Awaitable[None]]:
    async def start(ready: Callable[[], None]) -> None:
        with _as_part_failed():
            await run(ready)

    return start


@contextmanager
def _as_part_failed() -> Iterator[None]:
    """What the agent foresaw is told in a line."""
    try:
        yield
    except AgentError as error:
        raise PartFailed(str(error)) from None
