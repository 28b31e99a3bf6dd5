"""What the agent does when it is asked to: each request of the local socket, and what is looked after unasked."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from agent.attach.attacher import Attacher
from agent.attach.attachments import Attachment, Phase
from agent.control.requests import Attach, Check, Collect, Detach, Leave, Request, Rotate, ShowMesh, Status
from agent.errors import AgentError, NotNow, Refused
from agent.mesh import Mesh
from agent.registration import Registrar
from agent.report import describe
from agent.system.resolv_conf import OPTIONS
from agent.system.veth import GATEWAY
from store.errors import Unavailable
from store.keys import ALL_HOSTS
from store.store import Store
from zones.names import EnvironmentId

TEND_EVERY = 1.0  # seconds between two looks at the attachments

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Operations:
    """The agent, as its clients see it.

    ``quarantined`` gives what is wrong with the newest document of each environment whose newest is bad. ``end`` is
    called when the agent has left and is to end.
    """

    mesh: Mesh
    attacher: Attacher
    registrar: Registrar
    store: Store
    quarantined: Callable[[], Mapping[EnvironmentId, str]]
    end: Callable[[], None]

    async def handle(self, request: Request) -> dict[str, Any]:
        """Does what ``request`` asks for and gives the answer. Raises `AgentError`."""
        match request:
            case Attach():
                return await self._attach(request)
            case Check():
                return self._describe(await self.attacher.check(request.attachment()))
            case Detach():
                return await self._detach(request)
            case Collect():
                return await self._collect(request)
            case Status():
                return self._status()
            case ShowMesh():
                return await self._show_mesh()
            case Rotate():
                return {"public_key": await self.registrar.rotate()}
            case Leave():
                return await self._leave()

    async def tend(self, ready: Callable[[], None]) -> None:
        """Finishes what was begun, ends what has lost its workload, and drains the host if it is to be. For ever."""
        left: set[str] | None = None
        while True:
            if self.mesh.is_loaded:
                unfinished = {one.key for one in self.attacher.attachments if one.phase is not Phase.ATTACHED}
                # One that is being attached just now is somebody's; one that was when the agent started is nobody's.
                left = unfinished if left is None else left & unfinished
                for attachment in self.attacher.attachments:
                    await self._tend(attachment, is_left=attachment.key in left)
            ready()
            await asyncio.sleep(TEND_EVERY)

    async def _tend(self, attachment: Attachment, *, is_left: bool) -> None:
        actual, is_draining = self.mesh.actual, self.mesh.identity.host.draining
        try:
            is_left |= attachment.phase is Phase.DETACHING
            is_cut = attachment.phase is Phase.ATTACHED and actual and attachment.link not in actual.routes.interfaces
            if is_left or is_cut:
                await self.attacher.resume(attachment)
            elif attachment.phase is Phase.ATTACHED and attachment.is_draining != is_draining:
                await self.attacher.set_draining(attachment, draining=is_draining)
        except AgentError as error:
            log.warning("attachment_unsettled", extra={"instance": str(attachment), "reason": str(error)})

    async def _attach(self, request: Attach) -> dict[str, Any]:
        if request.build:
            raise Refused("build workloads are not attached: private networking is there once a service runs")
        attachment, steps, already = await self.attacher.attach(request.attachment(), wait=request.barrier)
        return {**self._describe(attachment), "already": already, "steps": steps.total()}

    def _describe(self, attachment: Attachment) -> dict[str, Any]:
        platform = self.mesh.platform
        host_mac, mac = attachment.macs
        return {
            "address": attachment.address,
            "mac": mac,
            "host_mac": host_mac,
            "interface": attachment.interface,
            "host_interface": attachment.link,
            "mtu": self.mesh.mtu,
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
        if attachment:
            await self.attacher.detach(attachment)
        return {"gone": attachment is not None}

    async def _collect(self, request: Collect) -> dict[str, Any]:
        keep = set(request.keep)
        gone = [
            one
            for one in self.attacher.attachments
            if one.container is not None and one.container.startswith(request.within) and one.container not in keep
        ]
        await self._detach_all(gone)
        return {"removed": [one.container for one in gone]}

    async def _detach_all(self, attachments: Iterable[Attachment]) -> None:
        await asyncio.gather(*(self.attacher.detach(attachment) for attachment in attachments))

    @property
    def obstacles(self) -> str:
        """Why workloads cannot be attached now; empty if they can."""
        mesh = self.mesh
        reasons = [
            mesh.problem,
            "" if mesh.is_loaded else "the environments are not loaded yet",
            "" if mesh.has_resolver else "no resolver is connected: start 'interlock resolver --agent-dir …' here",
            self.registrar.problem,
            "the host is being drained" if mesh.identity.host.draining else "",
        ]
        return "; ".join(filter(None, reasons))

    def _status(self) -> dict[str, Any]:
        mesh, reason = self.mesh, self.obstacles
        # Of what is attached already, something may not work either.
        is_limited = bool(mesh.problem) or not mesh.has_resolver
        return {"host": mesh.identity.id, "ready": not reason, "reason": reason, "limited": is_limited}

    async def _show_mesh(self) -> dict[str, Any]:
        mesh = self.mesh
        try:
            live = await self.store.hosts.live(mesh.hosts.hosts)
            acknowledged = {id_: await self.store.acks.read(id_) for id_ in (ALL_HOSTS, *mesh.environments)}
        except Unavailable as error:
            raise NotNow(f"{error}: 'wg show' still shows the device") from error
        if mesh.actual:
            mesh.read_back_soon()
        return describe(mesh, live, acknowledged, self.quarantined(), time.monotonic(), time.time())

    async def _leave(self) -> dict[str, Any]:
        mesh, left = self.mesh, list(self.attacher.attachments)
        carried = [
            f"{id_} of {environment.id}"
            for environment in mesh.environments.values()
            for id_, peer in environment.peers.items()
            if peer.gateway == mesh.identity.id
        ]
        if carried:
            raise Refused(f"this host is the gateway of {', '.join(carried)}: give those peers another gateway first")
        await self._detach_all(left)
        if len(self.attacher.attachments):
            raise NotNow("the store did not take all detachments: is it reachable? try again")
        await self.registrar.leave()
        await mesh.remove()
        self.end()
        return {"detached": len(left)}
