"""The record of a workload in the store: its instance in the environment's document, written by compare-and-set.

The record is what other hosts and resolvers learn of a workload: its address, its host, and whether it is ready.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from agent.attach.attachment import Attachment
from agent.errors import Failed, Refused
from agent.identity import Identity
from store.errors import Corrupt
from store.store import Store
from store.writer import Writer
from zones.edits import DeleteInstance, PutInstance, apply, must_exist
from zones.hosts import hosts_of
from zones.model import Environment, Instance, State
from zones.names import EnvironmentId


@dataclass(frozen=True, slots=True)
class InstanceRecord:
    """An instance as it was committed."""

    environment: Environment
    """The environment after the commit."""
    service: str
    """The current name of the service that the instance belongs to."""
    instance: Instance
    """The instance."""

    @property
    def hosts(self) -> Iterable[str]:
        """The hosts with a member of the environment, which all must learn of the record."""
        return hosts_of(self.environment)


class Fate(Enum):
    """What became of a record."""

    HERE = "here"
    """The store has it, on this host."""
    REMOVED = "removed"
    """Somebody has removed it, or given it to another host, since it was committed here."""
    LOST = "lost"
    """The store has an older revision of the environment than the one in which it was committed."""
    UNKNOWN = "unknown"
    """The store knows nothing of the environment, or its document cannot be read: that proves nothing."""


@dataclass(slots=True)
class InstanceRecords:
    """Writes the records of this host's workloads.

    All methods raise `AgentError`, and the errors of the store and of the model as they are.
    """

    store: Store
    """Says which hosts live."""
    writer: Writer
    """Commits the instances."""
    identity: Identity
    """The host that the instances run on."""

    async def put(self, attachment: Attachment, state: State) -> InstanceRecord:
        """Commits the instance of ``attachment`` on this host, in ``state``; the first commit gives it its address.

        An instance of another host is taken over if that host is dead. Raises `Refused` if it lives.
        """
        dead: frozenset[str] = frozenset()
        while True:
            try:
                return await self._put(attachment, state, dead)
            except _OnOtherHost as elsewhere:
                owner = elsewhere.host
            if await self.store.leases.live([owner]):
                raise Refused(f"{attachment} is attached to host {owner}, which lives: detach it there first")
            dead |= {owner}

    async def _put(self, attachment: Attachment, state: State, dead: frozenset[str]) -> InstanceRecord:
        host = self.identity.host
        region = attachment.region or host.region
        now = await self.store.clock.milliseconds()

        def step(_revision: int, found: Environment | None) -> Environment:
            before = must_exist(attachment.environment, found)
            service, instance = _find(before, attachment)
            if instance and instance.host not in {None, host.id, *dead}:
                raise _OnOtherHost(instance.host or "")
            edit = PutInstance(service or attachment.service, attachment.instance, state, host.id, region)
            return apply(before, [edit], now)

        environment = (await self.writer.change(attachment.environment, step)).after
        service, instance = _find(environment, attachment)
        if service is None or instance is None:
            raise Failed(f"{attachment} was removed by somebody else while it was being attached: attach it again")
        return InstanceRecord(environment, service, instance)

    async def set_state(self, attachment: Attachment, state: State) -> None:
        """Changes the state of the instance of ``attachment``, if it is still there."""
        now = await self.store.clock.milliseconds()

        def step(_revision: int, found: Environment | None) -> Environment:
            before = must_exist(attachment.environment, found)
            service, _ = _find(before, attachment)
            return apply(before, [PutInstance(service, attachment.instance, state)], now) if service else before

        await self.writer.change(attachment.environment, step)

    async def withdraw(self, environment: EnvironmentId, service: str, id_: str) -> bool:
        """Takes a ready instance of this host back to *starting*: its service is not answered with it. False if not."""
        now = await self.store.clock.milliseconds()

        def change(_revision: int, found: Environment | None) -> Environment:
            before = must_exist(environment, found)
            known = before.services.get(service)
            instance = known.instances.get(id_) if known else None
            if instance is None or instance.host != self.identity.id or instance.state is not State.READY:
                return before
            return apply(before, [PutInstance(service, id_, State.STARTING)], now)

        written = await self.writer.change(environment, change)
        return written.after is not written.before

    async def fate(self, attachment: Attachment) -> Fate:
        """What has become of the record of ``attachment``, read from the store."""
        try:
            revision, environment = await self.store.environments.read(attachment.environment)
        except Corrupt:
            return Fate.UNKNOWN
        if environment is None and revision == 0:
            return Fate.UNKNOWN
        if environment is not None:
            _, instance = _find(environment, attachment)
            if instance and instance.host == self.identity.id:
                return Fate.HERE
        return Fate.REMOVED if revision >= attachment.revision else Fate.LOST

    async def remove(self, attachment: Attachment) -> Environment | None:
        """Removes the instance of ``attachment``, and with it its names; gives the environment without it.

        None where nothing was to be removed. Raises `zones.errors.Missing` where the environment itself is gone.
        """
        now = await self.store.clock.milliseconds()

        def step(_revision: int, found: Environment | None) -> Environment:
            before = must_exist(attachment.environment, found)
            service, instance = _find(before, attachment)
            # If another host has taken the instance over since, its record is not this host's to remove.
            if service is None or instance is None or instance.host not in (None, self.identity.id):
                return before
            return apply(before, [DeleteInstance(service, attachment.instance)], now)

        written = await self.writer.change(attachment.environment, step)
        return None if written.after is written.before else written.after


class _OnOtherHost(Exception):
    """The instance belongs to another host."""

    def __init__(self, host: str) -> None:
        super().__init__(host)
        self.host = host


def _find(environment: Environment, attachment: Attachment) -> tuple[str | None, Instance | None]:
    """The service and the instance of ``attachment``, also if its service was renamed since the attach."""
    service = environment.services.get(attachment.service)
    if service and (instance := service.instances.get(attachment.instance)):
        return attachment.service, instance
    if attachment.address is not None:
        for name, other in environment.services.items():
            instance = other.instances.get(attachment.instance)
            if instance and instance.address == attachment.address:
                return name, instance
    return None, None
