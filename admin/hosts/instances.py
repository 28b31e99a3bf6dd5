"""The instances of a host's workloads, as its agent commits them: each on this host, and in environments that it may.

An instance is found by its service and its id, and by its address where its service was renamed since.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from msgspec import UNSET
from msgspec.structs import replace

from admin.hosts import rights
from admin.hosts.errors import NotAllowed
from admin.hosts.fates import was_removed
from admin.hosts.state import PlatformState
from store.credentials import Credential
from store.errors import Corrupt
from store.leases import Lease
from store.store import Store
from store.writer import Writer
from watcher.session.protocol import AskFate, Committed, Fate, PutInstance, RemoveInstance, SetState
from zones import edits
from zones.addresses import Address, network_of
from zones.edits import must_exist
from zones.errors import Conflict
from zones.model import Environment, Instance, State
from zones.names import EnvironmentId, check_environment_id
from zones.placement import is_ready_on


class NamesInstance(Protocol):
    """A request about an instance."""

    @property
    def environment(self) -> EnvironmentId: ...

    @property
    def service(self) -> str: ...

    @property
    def instance(self) -> str: ...

    @property
    def address(self) -> str | None: ...


@dataclass(slots=True)
class HostInstances:
    """Writes the instances of the host that holds ``lease``.

    All methods raise `NotAllowed`, and the errors of the store and of the model.
    """

    store: Store
    """Says which hosts live, and what time it is."""
    writer: Writer
    """Commits."""
    lease: Lease
    """Whose instances they are. Nothing is written unless it is held."""
    state: PlatformState
    """The hosts as they are known: an instance has the region of its host, unless it names one."""

    async def put(self, request: PutInstance, credential: Credential) -> Committed:
        """Commits the instance on this host; takes it over if the host that has it is dead.

        It gets the address at which it is connected, if it can, and if other hosts have been let through to there all
        the time; else it is committed as starting. One that is starting counts as not attached: its workload is to be
        connected yet, and no name leads there before.
        """
        dead = frozenset[str]()
        while True:
            try:
                return await self._put(request, credential, dead)
            except _OnOtherHost as elsewhere:
                owner = elsewhere.host
            if await self.store.leases.live([owner]):
                name = f"{request.environment}/{request.service}/{request.instance}"
                raise NotAllowed(f"{name} is on the host {owner}, which lives: detach it there first")
            dead |= {owner}

    async def _put(self, request: PutInstance, credential: Credential, dead: frozenset[str]) -> Committed:
        me, now = self.lease.host, await self.store.clock.milliseconds()
        region, connected = request.region, request.connected
        wanted = Address.parse(connected.address) if connected else None
        # A host that is not known yet has just registered; to ask the store with each put would double what it takes.
        if region is None and (host := self.state.hosts.hosts.get(me) or await self.store.hosts.find(me)):
            region = host.region

        def step(_revision: int, found: Environment | None) -> Environment:
            before = self._environment(request, credential, found)
            service, instance = _find(before, request)
            if instance and instance.host not in {None, me, *dead}:
                raise _OnOtherHost(instance.host or "")
            name = service or request.service
            attached = request.state is not State.STARTING
            edit = edits.PutInstance(name, request.instance, request.state, me, region, attached, wanted)
            after = edits.apply(before, [edit], now)
            if connected is None:
                return after
            is_there = edits.get_instance(after, name, request.instance).address == wanted
            if is_there and is_ready_on(me, before, *connected.beside):
                return after
            return edits.apply(before, [replace(edit, state=State.STARTING, attached=False)], now)

        environment = (await self.writer.change(_checked(request), step, self.lease)).after
        service, instance = _find(environment, request)
        if service is None or instance is None:
            raise Conflict("the instance was removed by somebody else while it was being put: put it again")
        is_starting = instance.state is State.STARTING
        address, enabled = str(instance.address), environment.enabled
        return Committed(request.number, environment.revision, service, address, enabled, is_starting)

    async def set_state(self, request: SetState, credential: Credential) -> bool:
        """Changes the state of the instance, if it is on this host; False if nothing changed."""
        now = await self.store.clock.milliseconds()

        def step(_revision: int, found: Environment | None) -> Environment:
            before = self._environment(request, credential, found)
            service, instance = self._own(before, request)
            if service is None or instance is None or request.only_from not in (None, instance.state):
                return before
            attached = UNSET if request.attached is None else request.attached
            edit = edits.PutInstance(service, request.instance, request.state, attached=attached)
            return edits.apply(before, [edit], now)

        written = await self.writer.change(_checked(request), step, self.lease)
        return written.after is not written.before

    async def remove(self, request: RemoveInstance, credential: Credential) -> int | None:
        """Removes the instance, if it is on this host. Returns the revision without it; None if nothing changed."""
        now = await self.store.clock.milliseconds()

        def step(_revision: int, found: Environment | None) -> Environment:
            before = self._environment(request, credential, found)
            service, instance = self._own(before, request)
            if service is None or instance is None:
                return before
            return edits.apply(before, [edits.DeleteInstance(service, request.instance)], now)

        written = await self.writer.change(_checked(request), step, self.lease)
        return None if written.after is written.before else written.after.revision

    async def fate(self, request: AskFate, credential: Credential) -> Fate:
        """What has become of the instance, which this host has committed at a revision."""
        try:
            revision, environment = await self.store.environments.read(_checked(request))
        except Corrupt:
            return Fate(request.number, "unknown")
        if environment is not None and self._own(environment, request)[1]:
            return Fate(request.number, "here")
        # A host learns nothing of an environment in which it has no business, not even that there is one.
        if (environment is None and revision == 0) or not rights.may_place(credential, request.environment):
            return Fate(request.number, "unknown")
        was_removed = revision >= request.revision and await self._was_removed(request, environment)
        return Fate(request.number, "removed" if was_removed else "lost")

    async def _was_removed(self, request: AskFate, environment: Environment | None) -> bool:
        if environment is None or request.address is None:
            return True
        address = Address.parse(request.address)
        owner = await self.store.environments.owner_of(network_of(int(address)))
        return was_removed(environment, request.instance, address, owner)

    def _own(self, environment: Environment, request: NamesInstance) -> tuple[str | None, Instance | None]:
        service, instance = _find(environment, request)
        return (service, instance) if instance and instance.host == self.lease.host else (None, None)

    def _environment(self, request: NamesInstance, credential: Credential, found: Environment | None) -> Environment:
        """``found``, if this host has any business in it: it may place instances there, or has this one.

        Else the error is the same whether it exists or not.
        """
        me, may_place = self.lease.host, rights.may_place(credential, request.environment)
        if not may_place and (found is None or self._own(found, request)[1] is None):
            raise rights.not_assigned(me, request.environment)
        return must_exist(request.environment, found)


class _OnOtherHost(Exception):
    """The instance belongs to another host."""

    def __init__(self, host: str) -> None:
        super().__init__(host)
        self.host = host


def _find(environment: Environment, request: NamesInstance) -> tuple[str | None, Instance | None]:
    service = environment.services.get(request.service)
    if service and (instance := service.instances.get(request.instance)):
        return request.service, instance
    if request.address is not None:
        for name, other in environment.services.items():
            instance = other.instances.get(request.instance)
            if instance and str(instance.address) == request.address:
                return name, instance
    return None, None


def _checked(request: NamesInstance) -> EnvironmentId:
    return check_environment_id(request.environment)
