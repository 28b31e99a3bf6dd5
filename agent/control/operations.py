"""What the agent does for each request on its control socket."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from agent.attach.attacher import Attacher
from agent.attach.attachment import Attachment, Phase, ip_netns_resolv_conf
from agent.attach.resolver_probe import probe_resolver
from agent.attach.upkeep import Upkeep
from agent.control.requests import Attach, Check, Collect, Detach, Examine, Leave, Request, Rotate, ShowMesh, Status
from agent.control_plane.connection import ControlPlane
from agent.control_plane.errors import ControlPlaneError
from agent.errors import AgentError, BadRequest, NotNow, Refused
from agent.examine.examiner import Examiner
from agent.examine.question import Question
from agent.mesh.mesh import Mesh
from agent.registration import Registrar
from agent.report import AllHosts, describe
from agent.system.resolv_conf import OPTIONS
from agent.system.veth import GATEWAY
from support.clock import in_words
from watcher.session.protocol import AskState, MeshState
from zones.names import EnvironmentId

NOT_LOADED = "the environments are not loaded yet"
NO_RESOLVER = "no resolver is connected: start 'interlock resolver --agent-dir …' here"
STATE_DEADLINE = 1.0  # seconds for what the control plane knows of the other hosts; then the report goes without it


@dataclass(slots=True)
class Operations:
    """Does what the clients of the control socket ask for."""

    mesh: Mesh
    """The mesh on this host, which it describes and, when the host leaves, removes."""
    attacher: Attacher
    """Attaches, checks and detaches workloads."""
    registrar: Registrar
    """Rotates this host's key, and removes the host from the control plane."""
    upkeep: Upkeep
    """Finds what is wrong with workloads, and with what the documents and this host say differently."""
    control_plane: ControlPlane
    """What knows the leases and the acknowledgements of the other hosts."""
    quarantined: Callable[[], Mapping[EnvironmentId, str]]
    """Gives the environments whose newest document cannot be used, and why."""
    held: Callable[[], Iterable[str]]
    """Gives what has vanished and stays here, a sentence each."""
    examiner: Examiner
    """Gathers the facts for `interlock doctor`."""
    end: Callable[[], None]
    """Is called when this host has left the mesh, and ends the agent."""

    async def handle(self, request: Request) -> dict[str, Any]:
        """Does what ``request`` asks for; gives the answer. Raises `AgentError`."""
        match request:
            case Attach():
                return await self._attach(request)
            case Check():
                return self._describe(await self.attacher.check(attachment_of(request)))
            case Detach():
                return await self._detach(request)
            case Collect():
                return await self._collect(request)
            case Status():
                return self._status()
            case ShowMesh():
                return await self._show_mesh()
            case Examine():
                return {"facts": await self.examiner.examine(question_of(request))}
            case Rotate():
                return await self._rotate(request)
            case Leave():
                return await self._leave()

    async def _attach(self, request: Attach) -> dict[str, Any]:
        if request.build:
            raise Refused("build workloads are not attached: private networking begins when the service runs")
        done = await self.attacher.attach(attachment_of(request), wait=request.barrier, replaces=request.replace)
        return {**self._describe(done.attachment), "already": done.was_attached, "steps": done.times.with_total()}

    def _describe(self, attachment: Attachment) -> dict[str, Any]:
        platform = self.mesh.platform
        host_mac, mac = attachment.macs
        return {
            "address": attachment.address,
            "mac": mac,
            "host_mac": host_mac,
            "interface": attachment.interface,
            "host_interface": attachment.link,
            "mtu": self.mesh.system.mtu,
            "gateway": GATEWAY,
            "prefix": str(platform.prefix),
            "nameserver": platform.resolver,
            "search": str(platform.apex).rstrip("."),
            "options": list(OPTIONS),
            "resolv_conf": attachment.resolv_conf,
        }

    async def _detach(self, request: Detach) -> dict[str, Any]:
        if request.container is not None:
            attachment = self.attacher.attachments.of_container(request.container)
        else:
            attachment = self.attacher.attachments.get(request.key)
        is_recorded = attachment is not None and not await self.attacher.detach(attachment, offline=request.offline)
        return {"gone": attachment is not None, "recorded": is_recorded}

    async def _collect(self, request: Collect) -> dict[str, Any]:
        keep = set(request.keep)
        gone = [
            one
            for one in self.attacher.attachments
            if one.container is not None and one.container.startswith(request.within) and one.container not in keep
        ]
        await asyncio.gather(*(self.attacher.detach(one, offline=True) for one in gone))
        return {"removed": [one.container for one in gone]}

    @property
    def obstacles(self) -> str:
        """Why workloads cannot be attached now; empty if they can."""
        mesh = self.mesh
        reasons = [
            mesh.status.problem,
            "" if mesh.published.is_loaded else NOT_LOADED,
            "" if mesh.has_resolver else NO_RESOLVER,
            self.registrar.problem,
            "the host is being drained" if mesh.identity.host.draining else "",
        ]
        return "; ".join(filter(None, reasons))

    @property
    def notes(self) -> str:
        """What is wrong though workloads can be attached; empty if nothing is."""
        return "; ".join([*self.registrar.problems, *self._stale])

    @property
    def _stale(self) -> list[str]:
        """That what this host knows is old, as a sentence; empty where the control plane has confirmed it."""
        since = self.mesh.published.stale_since
        if since is not None:
            age = in_words(time.time() - since)
            return [
                f"the environments are those of a snapshot that is {age} old: the control plane has not answered since"
            ]
        return []

    def _status(self) -> dict[str, Any]:
        mesh, reason = self.mesh, self.obstacles
        # Limited: not only are new workloads refused, those that are attached may not work either.
        is_limited = bool(mesh.status.problem) or not mesh.has_resolver
        return {"host": mesh.identity.id, "ready": not reason, "reason": reason, "limited": is_limited}

    async def _show_mesh(self) -> dict[str, Any]:
        mesh, all_hosts = self.mesh, None
        unknown = self._stale or ([] if mesh.published.is_loaded else [f"{NOT_LOADED}: only what is attached goes on"])
        answering = asyncio.create_task(self._examine_resolver())
        try:
            all_hosts = await self._ask_all_hosts()
        except (ControlPlaneError, TimeoutError) as error:
            unknown.insert(0, f"which hosts are live, and which revisions they have, is not known: {self._why(error)}")
        others = [*unknown, *await answering, *self.registrar.problems, *self.upkeep.problems, *self.held()]
        if mesh.status.actual:
            mesh.read_back_soon()
        attachments, quarantined = self.attacher.attachments, self.quarantined()
        return describe(mesh, attachments, all_hosts, quarantined, others, time.monotonic(), time.time())

    def _why(self, error: Exception) -> str:
        """Why the control plane has not said what it was asked."""
        if str(error):
            return str(error)
        if self.control_plane.connected:
            return (
                f"the control plane has not answered in {STATE_DEADLINE:g} s, though there is a session: does its"
                " store hang?"
            )
        return self.control_plane.reason or "no control plane can be reached"

    async def _examine_resolver(self) -> list[str]:
        """What is wrong with the resolver of this host, as sentences."""
        mesh, resolver = self.mesh, self.mesh.platform.resolver
        problems = [] if mesh.has_resolver else [f"{NO_RESOLVER}; names that it knew are answered while it runs"]
        if mesh.status.actual and (reason := await probe_resolver(resolver)):
            problems.append(
                f"nothing answers DNS at {resolver}, so no name resolves in the workloads of this host: {reason}:"
                " does the resolver run here, and listen on this address (--dns-listen)?"
            )
        return problems

    async def _ask_all_hosts(self) -> AllHosts:
        async with asyncio.timeout(STATE_DEADLINE):
            state = await self.control_plane.ask(AskState(0), MeshState)
        return AllHosts(frozenset(state.live), state.acknowledged)

    @property
    def _external_peers(self) -> list[str]:
        """The external peers whose gateway is this host, in words."""
        return [
            f"{id_} of {environment.id}"
            for environment in self.mesh.published.environments.values()
            for id_, peer in environment.peers.items()
            if peer.gateway == self.mesh.identity.id
        ]

    async def _rotate(self, request: Rotate) -> dict[str, Any]:
        peers = self._external_peers
        if peers and not request.cut_off_peers:
            # A device has one key, and nobody tells a laptop: there is no moment when it could take the next one.
            raise Refused(
                f"this host is the gateway of {', '.join(peers)}, whose configurations hold the key in use: give those"
                " peers another gateway first, or rotate with --cut-off-peers and hand out 'interlock peer config' anew"
            )
        return {"public_key": await self.registrar.rotate(), "cut_off": peers}

    async def _leave(self) -> dict[str, Any]:
        mesh, attached = self.mesh, list(self.attacher.attachments)
        if peers := self._external_peers:
            raise Refused(f"this host is the gateway of {', '.join(peers)}: give those peers another gateway first")
        await self.registrar.check_reachable()  # before any workload is cut off
        done = await asyncio.gather(*map(self.attacher.detach, attached), return_exceptions=True)
        if failed := [error for error in done if isinstance(error, BaseException)]:
            for error in failed:
                if not isinstance(error, AgentError):
                    raise error
            raise NotNow(
                f"{len(failed)} of {len(attached)} workloads stay attached, and this host in the mesh: {failed[0]}"
            ) from failed[0]
        await self.registrar.leave()
        await mesh.remove()
        self.end()
        return {"detached": len(attached)}


def question_of(request: Examine) -> Question:
    """What ``request`` asks about."""
    environment = EnvironmentId(request.environment) if request.environment is not None else None
    return Question(
        environment=environment,
        service=request.service,
        instance=request.instance,
        netns=request.netns,
        source=request.source,
        target=request.target,
        port=request.port,
    )


def attachment_of(request: Attach | Check) -> Attachment:
    """The attachment that ``request`` describes, as it is before its first step. Raises `BadRequest`."""
    path = request.resolv_conf or ip_netns_resolv_conf(request.netns)
    try:
        return Attachment(
            environment=EnvironmentId(request.environment),
            service=request.service,
            instance=request.instance,
            netns=request.netns,
            interface=request.interface,
            phase=Phase.ATTACHING,
            region=request.region,
            resolv_conf=str(path) if path else None,
            container=request.container,
        )
    except ValueError as error:
        raise BadRequest(str(error)) from None
