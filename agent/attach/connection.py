"""The connection of a workload to its host: its veth, its ``resolv.conf``, and the host's routes and rules for it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv6Network
from pathlib import Path

from msgspec.structs import replace

from agent.attach.attachment import Attachment
from agent.attach.attachments import Attachments
from agent.errors import Failed, LinkGone
from agent.mesh.mesh import Mesh
from agent.plan.link_filter import LinkFilter
from agent.system import resolv_conf
from agent.system.interior import Interior, interior
from agent.system.netlink import call_with_links
from agent.system.veth import Veth, create_veth, find_faults, has_veth


@dataclass(slots=True)
class Connections:
    """Connects workloads to the host that ``mesh`` keeps. All methods raise `AgentError`."""

    mesh: Mesh
    """Routes packets to the workloads."""
    attachments: Attachments
    """Where the former content of a ``resolv.conf`` is kept."""

    async def begin(self, attachment: Attachment) -> Attachment:
        """Keeps ``attachment`` on disk with what its ``resolv.conf`` holds now; gives it. `write_files` must follow.

        Before that is overwritten: an agent that is killed between the two could never put it back.
        """
        text = resolv_conf.render(self.mesh.platform)

        def complete(one: Attachment) -> Attachment:
            before = resolv_conf.read(Path(one.resolv_conf)) if one.resolv_conf else None
            return one if before in (None, text) else replace(one, resolv_conf_before=before)

        return await self.attachments.begin(attachment, complete)

    async def write_files(self, attachment: Attachment) -> None:
        """Writes the ``resolv.conf`` of ``attachment``, which `begin` has kept; returns when that is flushed."""
        text = resolv_conf.render(self.mesh.platform)

        def write() -> None:
            self.attachments.flush(attachment)
            if attachment.resolv_conf:
                resolv_conf.write(Path(attachment.resolv_conf), text)

        await asyncio.to_thread(write)

    async def make(self, attachment: Attachment, inside: Interior) -> None:
        """Connects ``attachment``; returns when this host reaches its address."""
        mesh = self.mesh
        place = attachment.veth, inside, *self._settings(attachment.veth)
        try:
            await create_veth(mesh.system.links, *place)
        except LinkGone:
            # The kernel removes a pair some time after the namespace has ended into which it led.
            await create_veth(mesh.system.links, *place)
        await mesh.add_workload(attachment.link)

    async def repair(self, attachment: Attachment, namespace: int) -> Sequence[str]:
        """Puts right what is not as `make` made it inside the workload; gives what that was."""
        mesh, veth, settings = self.mesh, attachment.veth, self._settings(attachment.veth)
        faults = await find_faults(mesh.system.links, veth, namespace, *settings)
        if faults:
            async with interior(namespace) as inside:
                await create_veth(mesh.system.links, veth, inside, *settings)
            mesh.read_back_soon()
        return faults

    async def remove(self, attachment: Attachment) -> None:
        """Removes what `make` made, and puts the ``resolv.conf`` back."""
        with contextlib.suppress(Failed):  # the mesh tries again in its next pass
            await self.mesh.wait_until_applied()
        with self.mesh.removing(attachment.link):
            await call_with_links(lambda links: links.remove(attachment.link))
        await self.restore_resolv_conf(attachment)

    async def restore_resolv_conf(self, attachment: Attachment) -> None:
        """Puts back what the ``resolv.conf`` of ``attachment`` held before."""
        if attachment.resolv_conf:
            text = resolv_conf.render(self.mesh.platform)
            path, before = Path(attachment.resolv_conf), attachment.resolv_conf_before
            await asyncio.to_thread(resolv_conf.restore, path, text, before)

    async def has_veth(self, attachment: Attachment, namespace: int) -> bool:
        """Whether ``namespace`` has the workload's end of the veth of ``attachment``."""
        return attachment.address is not None and await has_veth(attachment.veth, namespace)

    async def find_faults(self, attachment: Attachment, namespace: int) -> Sequence[str]:
        """What is not as `make` made it, in words; empty if all is."""
        mesh = self.mesh
        system, status = mesh.system, mesh.status
        try:
            faults = await find_faults(system.links, attachment.veth, namespace, *self._settings(attachment.veth))
        except LinkGone as error:
            faults = [str(error)]
        if status.actual and status.actual.routes.workloads.get(attachment.link) != attachment.address:
            faults.append(f"the host has no route to {attachment.address}")
        if attachment.resolv_conf:
            path, text = Path(attachment.resolv_conf), resolv_conf.render(mesh.platform)
            if not await asyncio.to_thread(resolv_conf.is_written, path, text):
                faults.append(f"{path} is not as it was written")
        return faults

    def _settings(self, veth: Veth) -> tuple[IPv6Network, int, LinkFilter | None]:
        """The platform's prefix, the MTU, and the filter of the link of ``veth``."""
        system = self.mesh.system
        return self.mesh.platform.prefix, system.mtu, system.filter_of(veth.address)
