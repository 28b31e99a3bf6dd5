"""One workload of this host, looked at from inside its network namespace."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from msgspec.structs import replace

from agent.attach.attacher import Attacher
from agent.attach.attachment import Attachment
from agent.errors import AgentError, BadRequest, NotThere
from agent.examine.facts import Listener, WorkloadFacts
from agent.examine.probe import ask_own_name
from agent.examine.sockets import name_owners, processes_inside, read_listeners
from agent.mesh.mesh import Mesh
from agent.system.namespaces import call_inside, identify, opened

LARGEST_RESOLV_CONF = 65_536  # octets that are read of a file that a workload wrote


@dataclass(frozen=True, slots=True)
class WorkloadExaminer:
    """Looks at workloads; it changes nothing."""

    mesh: Mesh
    """The platform's addresses and names."""
    attacher: Attacher
    """Compares a workload's link with how it was made."""

    async def examine(self, attachment: Attachment) -> WorkloadFacts:
        """The facts of the workload of ``attachment``."""
        facts = WorkloadFacts(
            instance=attachment.instance,
            service=attachment.service,
            environment=attachment.environment,
            address=str(attachment.address) if attachment.address else None,
            phase=attachment.phase.value,
            netns=attachment.netns,
        )
        try:
            with opened(attachment.netns) as namespace:
                if attachment.namespace not in (None, await identify(namespace)):
                    raise NotThere(f"another network namespace is at {attachment.netns} now")
                return await self._look_inside(attachment, namespace, facts)
        except (NotThere, BadRequest) as error:
            return replace(facts, gone=str(error))

    async def _look_inside(self, attachment: Attachment, namespace: int, facts: WorkloadFacts) -> WorkloadFacts:
        if attachment.address is None:
            return facts
        faults, lookup, listeners = await asyncio.gather(
            self._find_faults(attachment, namespace), self._look_up(attachment, namespace), _read_sockets(namespace)
        )
        path, nameservers = await asyncio.to_thread(_read_resolv_conf, attachment.resolv_conf, os.fstat(namespace))
        return replace(
            facts,
            faults=faults,
            lookup=lookup,
            listeners=listeners,
            resolv_conf=path,
            nameservers=nameservers,
        )

    async def _find_faults(self, attachment: Attachment, namespace: int) -> tuple[str, ...]:
        try:
            return tuple(await self.attacher.connections.find_faults(attachment, namespace))
        except (AgentError, OSError) as error:
            return (str(error),)

    async def _look_up(self, attachment: Attachment, namespace: int) -> str:
        assert attachment.address is not None
        name = self.mesh.platform.apex.child(attachment.instance, self._present_service(attachment))
        try:
            return await ask_own_name(namespace, self.mesh.platform.resolver, name, attachment.address)
        except OSError as error:
            return f"no look-up could be made: {error.strerror}"

    def _present_service(self, attachment: Attachment) -> str:
        """The service's name as the document has it now; it may have been renamed since the attach."""
        environment = self.mesh.published.environments.get(attachment.environment)
        for name, service in (environment.services if environment else {}).items():
            known = service.instances.get(attachment.instance)
            if known and known.address == attachment.address:
                return name
        return attachment.service


async def _read_sockets(namespace: int) -> tuple[Listener, ...] | None:
    try:
        found = await call_inside(namespace, read_listeners)
    except OSError:
        return None
    return await asyncio.to_thread(name_owners, found, namespace)


def _read_resolv_conf(written: str | None, namespace: os.stat_result) -> tuple[str | None, tuple[str, ...] | None]:
    """Which ``resolv.conf`` counts for the workload, and its nameservers.

    What a process inside sees counts, for that is what its C library reads; else the file that the agent wrote.
    """
    places = [process / "root/etc/resolv.conf" for process in processes_inside(namespace)]
    places += [Path(written)] if written else []
    own = os.stat("/proc/self/ns/mnt")
    for place in places:
        with suppress(OSError):
            if place.name == "resolv.conf" and len(place.parts) > 3 and place.parts[1] == "proc":
                mounts = os.stat(Path(*place.parts[:3]) / "ns/mnt")
                if (mounts.st_dev, mounts.st_ino) == (own.st_dev, own.st_ino):
                    continue  # it sees the host's own file, as what 'ip netns exec' started before that had one
            return str(place), _nameservers(place)
    return (written, None) if written else (None, None)


def _nameservers(path: Path) -> tuple[str, ...]:
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # it may be a FIFO, and is no file of ours
    try:
        text = os.read(descriptor, LARGEST_RESOLV_CONF).decode(errors="replace")
    finally:
        os.close(descriptor)
    lines = (line.split() for line in text.splitlines())
    return tuple(words[1] for words in lines if len(words) > 1 and words[0] == "nameserver")
