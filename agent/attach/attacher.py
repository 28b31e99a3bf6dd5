"""Giving a workload its place, and taking it away: the order in which it happens.

    attach   record    the instance is committed as starting, and has its address
             plumb     link, address, routes, resolv.conf; this host can reach it      \
             path      every live host of the environment can reach it                  } at the same time
             ready     the instance is committed as ready
             answer    every live host of the environment answers its name
             look-up   A and AAAA, from inside
    detach   the other way round: its names go first, then the way

What has been begun is on disk before it is done. An attachment that fails is undone; one that an agent was killed over
is taken up again by the next.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from weakref import WeakValueDictionary

from msgspec.structs import replace

from agent.announce.barrier import Barrier
from agent.attach.attachments import Attachment, Attachments, Phase
from agent.attach.lookup import look_up
from agent.errors import AgentError, BadRequest, Failed, NotNow, NotThere, Refused
from agent.mesh import Mesh
from agent.system import resolv_conf
from agent.system.namespaces import is_own, opened
from agent.system.veth import create_veth, find_faults, remove_veth
from store.errors import RevisionConflict, Unavailable
from store.store import Store
from store.writer import Writer
from support.clock import unix_milliseconds
from zones.edits import DeleteInstance, PutInstance, apply, must_exist
from zones.errors import Invalid, Missing, ZonesError
from zones.hosts import hosts_of
from zones.model import Environment, Instance, State

LEAVE_DEADLINE = 2.0  # seconds that others have to stop answering a name; its workload is on its way out in any case

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Counts:
    """What has happened since the start, for metrics. ``seconds`` are those of all attachments that succeeded."""

    attached: int = 0
    detached: int = 0
    failed: int = 0
    seconds: float = 0.0


@dataclass(slots=True)
class Steps:
    """How long each step of an attachment took, in milliseconds."""

    started: float = field(default_factory=time.monotonic)
    milliseconds: dict[str, float] = field(default_factory=dict)

    @contextlib.contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Times what is done inside as the step ``name``."""
        began = time.monotonic()
        yield
        self.milliseconds[name] = round((time.monotonic() - began) * 1000, 3)

    def total(self) -> dict[str, float]:
        """All of them, with their ``total`` by the clock."""
        return {**self.milliseconds, "total": round((time.monotonic() - self.started) * 1000, 3)}


@dataclass(slots=True)
class Attacher:
    """Attaches workloads to the host that ``mesh`` keeps. All methods raise `AgentError`."""

    mesh: Mesh
    attachments: Attachments
    store: Store
    writer: Writer
    barrier: Barrier
    counts: Counts = field(default_factory=Counts)
    _turns: WeakValueDictionary[str, asyncio.Lock] = field(default_factory=WeakValueDictionary)

    async def attach(self, wanted: Attachment, *, wait: bool = True) -> tuple[Attachment, Steps, bool]:
        """Attaches ``wanted``; gives it as it is then, how long it took, and whether it was attached already.

        Without ``wait`` it is ready at once, and others may be told of it before they can reach it: this is there to
        measure what waiting is worth.
        """
        steps = Steps()
        async with self._turn(wanted.key):
            with _as_agent_errors(), opened(wanted.netns) as namespace:
                known = self.attachments.get(wanted.key)
                if known and _is_same(known, wanted) and not await self._find_faults(known, namespace):
                    return known, steps, True
                self._check(wanted, namespace)
                try:
                    attached = await self._attach(wanted, known, namespace, steps, wait=wait)
                except BaseException as error:
                    self.counts.failed += 1
                    await self._undo(wanted, known, error)
                    raise
        self.counts.attached += 1
        self.counts.seconds += steps.total()["total"] / 1000
        log.info("attached", extra={"instance": str(attached), "address": str(attached.address), "ms": steps.total()})
        return attached, steps, False

    async def detach(self, attachment: Attachment) -> None:
        """Detaches ``attachment``. Where the store is away, what is left to do there is done when it is back."""
        async with self._turn(attachment.key):
            with _as_agent_errors():
                if known := self.attachments.get(attachment.key):
                    await self._detach(known)

    async def check(self, wanted: Attachment) -> Attachment:
        """``wanted`` as it is attached, if it is, just so."""
        known = self.attachments.get(wanted.key)
        if known is None or known.phase is not Phase.ATTACHED:
            raise NotThere(f"{wanted} is not attached to this host")
        with opened(wanted.netns) as namespace:
            faults = await self._find_faults(replace(known, netns=wanted.netns, interface=wanted.interface), namespace)
        if faults:
            raise Failed(f"{wanted}: {'; '.join(faults)}: attach it again")
        return known

    async def resume(self, attachment: Attachment) -> None:
        """Takes up ``attachment``, in whatever state it was left."""
        if attachment.phase is Phase.DETACHING:
            await self.detach(attachment)
            return
        try:
            with opened(attachment.netns):
                pass
        except (NotThere, BadRequest):
            log.warning("workload_gone", extra={"instance": str(attachment), "netns": attachment.netns})
            await self.detach(attachment)
            return
        await self.attach(attachment)

    async def set_draining(self, attachment: Attachment, *, draining: bool) -> None:
        """Takes ``attachment`` out of its service's answers, or puts it back; its connections do not notice."""
        state = State.DRAINING if draining else State.READY
        async with self._turn(attachment.key):
            known = self.attachments.get(attachment.key)
            if known is None or known.phase is not Phase.ATTACHED:
                return
            with _as_agent_errors():
                await self.writer.settle(known.environment, lambda _, before: _change_state(known, before, state))
            await self.attachments.change(known, is_draining=draining)

    # Attach, step by step

    def _check(self, wanted: Attachment, namespace: int) -> None:
        if self.mesh.identity.host.draining:
            raise Refused(f"host {self.mesh.identity.id} is being drained: attach it elsewhere, or undrain the host")
        if not self.mesh.is_loaded:
            raise NotNow("this host has not loaded its environments yet: is the store reachable? try again")
        if not self.mesh.has_resolver:
            raise NotNow("no resolver is connected here: does 'interlock resolver --agent-dir …' run? try again")
        if is_own(namespace):
            raise BadRequest(f"{wanted.netns} is the host's own network namespace: name the workload's")

    async def _attach(
        self, wanted: Attachment, known: Attachment | None, namespace: int, steps: Steps, *, wait: bool
    ) -> Attachment:
        address = known.address if known else None
        before = known.resolv_conf_before if known and known.resolv_conf == wanted.resolv_conf else None
        begun = await self.attachments.put(
            replace(wanted, phase=Phase.ATTACHING, address=address, resolv_conf_before=before)
        )
        with steps.timed("record"):
            environment = await self._commit(begun, State.STARTING if wait else State.READY)
        begun = await self.attachments.change(begun, address=_find(environment, begun)[1].address)
        if wait:
            async with asyncio.TaskGroup() as at_once:
                at_once.create_task(self._plumb(begun, namespace, environment.revision, steps))
                at_once.create_task(self._pass("path", environment, steps))
            with steps.timed("ready"):
                environment = await self._commit(begun, State.READY)
            await self._pass("answer", environment, steps)
        else:
            await self._plumb(begun, namespace, environment.revision, steps)
        with steps.timed("lookup"):
            await self._look_up(begun, environment, namespace)
        return await self.attachments.change(self.attachments.get(begun.key) or begun, phase=Phase.ATTACHED)

    async def _commit(self, attachment: Attachment, state: State, dead: frozenset[str] = frozenset()) -> Environment:
        """The environment with the instance in ``state`` on this host, taken over from any that is ``dead``."""
        host = self.mesh.identity.host
        region = attachment.region or host.region

        def step(_revision: int, found: Environment | None) -> Environment:
            before = must_exist(attachment.environment, found)
            name, instance = _find_or_none(before, attachment)
            if instance and instance.host not in {None, host.id, *dead}:
                raise _Elsewhere(instance.host or "")
            edit = PutInstance(name or attachment.service, attachment.instance, state, host.id, region)
            return apply(before, [edit], unix_milliseconds())

        try:
            return (await self.writer.settle(attachment.environment, step)).after
        except _Elsewhere as elsewhere:
            owner = elsewhere.host
        if await self.store.hosts.live([owner]):
            raise Refused(f"{attachment} is attached to host {owner}, which lives: detach it there first")
        return await self._commit(attachment, state, dead | {owner})

    async def _plumb(self, attachment: Attachment, namespace: int, revision: int, steps: Steps) -> None:
        mesh = self.mesh
        with steps.timed("plumb"):
            await create_veth(mesh.links, attachment, namespace, mesh.platform.prefix, mesh.mtu)
            if attachment.resolv_conf:
                path, text = Path(attachment.resolv_conf), resolv_conf.render(mesh.platform)
                before = await asyncio.to_thread(resolv_conf.write, path, text)
                if before not in (None, text):
                    attachment = await self.attachments.change(attachment, resolv_conf_before=before)
            await mesh.add_workload(attachment, revision)

    async def _pass(self, name: str, environment: Environment, steps: Steps) -> None:
        with steps.timed(name):
            await self.barrier.wait(environment.id, environment.revision, hosts_of(environment))

    async def _look_up(self, attachment: Attachment, environment: Environment, namespace: int) -> None:
        if not environment.enabled:
            raise Refused(f"private networking is switched off for {environment.id}: enable it first")
        apex, name = self.mesh.platform.apex, _find(environment, attachment)[0]
        service = apex.child(name)
        assert attachment.address is not None
        await look_up(
            namespace, self.mesh.platform.resolver, service, service.child(attachment.instance), attachment.address
        )

    async def _find_faults(self, attachment: Attachment, namespace: int) -> Sequence[str]:
        mesh = self.mesh
        faults = await find_faults(mesh.links, attachment, namespace, mesh.platform.prefix, mesh.mtu)
        if mesh.actual and mesh.actual.routes.workloads.get(attachment.link) != attachment.address:
            faults.append(f"the host has no way to {attachment.address}")
        if attachment.resolv_conf:
            path, text = Path(attachment.resolv_conf), resolv_conf.render(mesh.platform)
            if not await asyncio.to_thread(resolv_conf.is_written, path, text):
                faults.append(f"{path} is not as it was written")
        return faults

    # Detach, and undo

    async def _detach(self, known: Attachment) -> None:
        leaving = await self.attachments.change(known, phase=Phase.DETACHING)
        try:
            await self._withdraw(leaving)
            is_withdrawn = True
        except Unavailable as error:
            log.warning("detach_unfinished", extra={"instance": str(leaving), "reason": str(error)})
            is_withdrawn = False
        await self._tear_down(leaving)
        if is_withdrawn:
            await self.attachments.remove(leaving)
            self.counts.detached += 1
            log.info("detached", extra={"instance": str(leaving)})

    async def _withdraw(self, leaving: Attachment) -> None:
        """The instance's record goes, and with it its names, on all hosts."""

        def step(_revision: int, found: Environment | None) -> Environment:
            before = must_exist(leaving.environment, found)
            name, instance = _find_or_none(before, leaving)
            # Another host may have taken it over since; then it is no more ours to remove.
            if name is None or instance is None or instance.host not in (None, self.mesh.identity.id):
                return before
            return apply(before, [DeleteInstance(name, leaving.instance)], unix_milliseconds())

        with contextlib.suppress(Missing):
            written = await self.writer.settle(leaving.environment, step)
            if written.after is not written.before:
                others = hosts_of(written.after) - {self.mesh.identity.id}
                await self.barrier.wait(leaving.environment, written.after.revision, others, LEAVE_DEADLINE)

    async def _tear_down(self, leaving: Attachment) -> None:
        with contextlib.suppress(Failed):  # what the mesh cannot do now, it does with its next pass
            await self.mesh.wait_until_applied()
        await remove_veth(self.mesh.links, leaving)
        if leaving.resolv_conf:
            text = resolv_conf.render(self.mesh.platform)
            await asyncio.to_thread(resolv_conf.restore, Path(leaving.resolv_conf), text, leaving.resolv_conf_before)

    async def _undo(self, wanted: Attachment, before: Attachment | None, error: BaseException) -> None:
        known = self.attachments.get(wanted.key)
        if known is None:
            return
        if before and before.phase is Phase.ATTACHED:
            # It was to be mended, and is in use: what could not be done now can be tried again.
            await self.attachments.put(before)
            return
        log.warning("attach_failed", extra={"instance": str(wanted), "reason": str(error) or type(error).__name__})
        with contextlib.suppress(AgentError):
            await asyncio.shield(self._detach(known))

    def _turn(self, key: str) -> asyncio.Lock:
        return self._turns.setdefault(key, asyncio.Lock())


class _Elsewhere(Exception):
    """The instance is on another host."""

    def __init__(self, host: str) -> None:
        super().__init__(host)
        self.host = host


@contextlib.contextmanager
def _as_agent_errors() -> Iterator[None]:
    """The errors of the store and of the model, in the words of this folder."""
    try:
        try:
            yield
        except BaseExceptionGroup as several:  # of a task group: one is as good as all
            raise several.exceptions[0] from None
    except Unavailable as error:
        raise NotNow(f"{error}: nothing that is attached changes meanwhile; try again") from error
    except RevisionConflict as error:
        raise NotNow(f"{error}, and so it went several times: try again") from error
    except Missing as error:
        raise NotThere(str(error)) from error
    except Invalid as error:
        raise BadRequest(str(error)) from error
    except ZonesError as error:
        raise Refused(str(error)) from error


def _is_same(known: Attachment, wanted: Attachment) -> bool:
    where = (wanted.netns, wanted.interface, wanted.resolv_conf)
    return known.phase is Phase.ATTACHED and (known.netns, known.interface, known.resolv_conf) == where


def _find_or_none(environment: Environment, attachment: Attachment) -> tuple[str | None, Instance | None]:
    """The service and the instance of ``attachment``, wherever its service has been renamed to since."""
    service = environment.services.get(attachment.service)
    if service and (instance := service.instances.get(attachment.instance)):
        return attachment.service, instance
    if attachment.address is not None:
        for name, other in environment.services.items():
            instance = other.instances.get(attachment.instance)
            if instance and instance.address == attachment.address:
                return name, instance
    return None, None


def _find(environment: Environment, attachment: Attachment) -> tuple[str, Instance]:
    name, instance = _find_or_none(environment, attachment)
    if name is None or instance is None:
        raise Failed(f"{attachment} was removed by somebody else while it was being attached: attach it again")
    return name, instance


def _change_state(attachment: Attachment, found: Environment | None, state: State) -> Environment:
    before = must_exist(attachment.environment, found)
    name, _ = _find_or_none(before, attachment)
    return apply(before, [PutInstance(name, attachment.instance, state)], unix_milliseconds()) if name else before
