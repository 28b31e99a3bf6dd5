"""Attaching a workload to this host and detaching it: the steps, in their order.

    attach   connect    link, address, routes, resolv.conf: this host reaches it
             record     the instance is committed as ready, at that address
             answer     every live host of the environment reaches it and answers its name
             lookup     A and AAAA of its names, from inside the workload
    detach   the record goes first, and with it the names on all hosts; then the connection

Where this host cannot know the address beforehand (`agent.attach.expected`), or the instance gets another one, the
first two steps are these:

             record     the instance is committed as starting, and has its address
             connect    as above                                     \
             path       every live host of the environment reaches it } at the same time
             ready      the instance is committed as ready

An attachment is kept before its first step begins, and until its last step is undone; it is flushed to the disk beside
the first steps, before the instance is ready. An attach that fails is undone. One that was cut off by the end of the
agent is finished or undone by the next agent (`resume`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Coroutine, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import TypeVar
from weakref import WeakValueDictionary

from msgspec.structs import replace

from agent.announce.barrier import DEADLINE, Barrier
from agent.attach.attachment import Attachment, Phase, key_of
from agent.attach.attachments import Attachments
from agent.attach.connection import Connections
from agent.attach.errors import as_agent_errors
from agent.attach.expected import expect
from agent.attach.history import AttachHistory
from agent.attach.lookup import look_up
from agent.attach.record import Fate, InstanceRecords
from agent.attach.step_times import StepTimes
from agent.control_plane.errors import LeaseLost, Missing, Unavailable
from agent.errors import AgentError, BadRequest, Failed, NotNow, NotThere, Refused
from agent.mesh.mesh import Mesh
from agent.system.interior import Interior, interior
from agent.system.namespaces import identify, is_own, opened
from agent.system.netlink import call_with_links
from agent.system.veth import find_workload_end, link_names, may_use
from support.histogram import Histogram
from watcher.session.protocol import Committed, Connected
from zones.addresses import Address
from zones.model import State
from zones.names import EnvironmentId

ATTACH_SECONDS = (0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0)  # bounds: two barriers of 10 s each
LEAVE_DEADLINE = 2.0  # seconds for the other hosts to stop answering a name; then its workload is detached all the same

T = TypeVar("T")
S = TypeVar("S")

log = logging.getLogger(__name__)


@dataclass(slots=True)
class AttachCounts:
    """What has happened since the agent started, for metrics."""

    attached: int = 0
    """Attaches that succeeded and had something to do."""
    detached: int = 0
    """Detaches that were completed, with their records."""
    failed: int = 0
    """Attaches that failed."""
    seconds: Histogram = field(default_factory=lambda: Histogram(ATTACH_SECONDS))
    """Successful attaches by the seconds that they took."""


@dataclass(frozen=True, slots=True)
class AttachResult:
    """An attach that succeeded."""

    attachment: Attachment
    """The attachment as it is on the disk now."""
    times: StepTimes
    """How long each step took."""
    was_attached: bool
    """Whether the workload was attached already, so that nothing was done."""


@dataclass(slots=True)
class Attacher:
    """Attaches workloads to the host that ``mesh`` keeps. All methods raise `AgentError`."""

    mesh: Mesh
    """Routes packets to the workloads."""
    attachments: Attachments
    """The attachments on this host's disk."""
    records: InstanceRecords
    """Has the workloads' instances committed."""
    connections: Connections
    """Makes and removes links and ``resolv.conf`` files."""
    barrier: Barrier
    """Waits for the other hosts."""
    counts: AttachCounts = field(default_factory=AttachCounts)
    """What has happened since the agent started."""
    history: AttachHistory = field(default_factory=AttachHistory)
    """The last attaches."""
    _under_way: dict[str, Attachment] = field(default_factory=dict)
    """The attaches under way, by key: their attachments may not be on the disk yet."""
    _undoing: set[str] = field(default_factory=set)
    """The keys of the attaches that have failed and whose records may be there still: no control plane answered."""
    _locks: WeakValueDictionary[str, asyncio.Lock] = field(default_factory=WeakValueDictionary)

    async def attach(self, wanted: Attachment, *, wait: bool = True, replaces: bool = False) -> AttachResult:
        """Attaches ``wanted``. If it is attached already, with the same link, and nothing is missing, it does nothing.

        With ``replaces`` it takes the place of a live workload that is attached as the same instance. Without ``wait``
        the instance is committed as ready at once, and this host alone is waited for: others may still answer that
        there is no such name. Benchmarks attach without it, to measure what the waiting costs.
        """
        times = StepTimes()
        async with self._lock(wanted.key):
            with as_agent_errors(), opened(wanted.netns) as namespace:
                async with interior(namespace) as inside:
                    wanted = _identified(wanted, inside)
                    known = self.attachments.get(wanted.key)
                    if known and _is_same(known, wanted) and not await self.connections.find_faults(known, namespace):
                        if known.namespace is None:
                            known = await self.attachments.change(known, namespace=wanted.namespace)
                        return AttachResult(known, times, was_attached=True)
                    self._check_admission(wanted, namespace)
                    self._check_alone(wanted)
                    if known and not replaces:
                        await self._check_not_live(known, wanted)
                    attached = await self._attach(wanted, known, inside, times, wait=wait)
        if known:
            await self._give_back_path(known, attached)
        self.history.note(attached, times)
        taken = times.with_total()
        self.counts.attached += 1
        self.counts.seconds.observe(taken["total"] / 1000)
        log.info("attached", extra={"instance": str(attached), "address": str(attached.address), "ms": taken})
        return AttachResult(attached, times, was_attached=False)

    async def _attach(
        self, wanted: Attachment, known: Attachment | None, inside: Interior, times: StepTimes, *, wait: bool
    ) -> Attachment:
        """Runs the steps, and undoes them where one fails. ``known`` is the earlier attachment of the same instance."""
        self._under_way[wanted.key] = wanted
        self._undoing.discard(wanted.key)
        try:
            wanted = await self._take_over_path(self._with_link(wanted, known))
            return await self._run_steps(wanted, known, inside, times, wait=wait)
        except BaseException as error:
            self.counts.failed += 1
            self.history.note(wanted, times, str(error) or type(error).__name__)
            await self._undo(wanted, known, error)
            raise
        finally:
            del self._under_way[wanted.key]

    def _check_admission(self, wanted: Attachment, namespace: int) -> None:
        if self.mesh.identity.host.draining:
            raise Refused(f"host {self.mesh.identity.id} is being drained: attach it elsewhere, or undrain the host")
        if not self.mesh.published.is_loaded:
            raise NotNow("this host has not loaded its environments yet: is the control plane reachable? try again")
        if not self.mesh.has_resolver:
            raise NotNow("no resolver is connected here: does 'interlock resolver --agent-dir …' run? try again")
        if is_own(namespace):
            raise BadRequest(f"{wanted.netns} is the host's own network namespace: name the workload's")

    def _check_alone(self, wanted: Attachment) -> None:
        """Raises `Refused` where the namespace of ``wanted`` is attached as another instance.

        Both would have the route to the platform's prefix and the one nameserver, so one of them would work, and the
        detach of either would leave the other without.
        """
        for other in (*self.attachments, *self._under_way.values()):
            is_same = other.namespace == wanted.namespace or (other.namespace is None and other.netns == wanted.netns)
            if is_same and other.key != wanted.key and other.phase is not Phase.DETACHING:
                raise Refused(
                    f"{wanted.netns} is attached already, as {other}: a workload is one instance of one environment;"
                    " detach that one first, or give this one a network namespace of its own"
                )

    async def _check_not_live(self, known: Attachment, wanted: Attachment) -> None:
        """Raises `Refused` where ``known`` is attached from another namespace than ``wanted``, which still exists."""
        if known.namespace in (None, wanted.namespace) or known.phase is Phase.DETACHING:
            return
        # A namespace goes some time after its last process, and its links with it: it lives if a path leads there.
        if found := await call_with_links(lambda links: find_workload_end(links, known.link)):
            container = f" (container {known.container})" if known.container else ""
            raise Refused(
                f"{wanted} is attached already, from {known.netns}{container}, and lives at {found[0]}: detach it there"
                " first, or attach with --replace to take its address and its names"
            )

    def _with_link(self, wanted: Attachment, known: Attachment | None) -> Attachment:
        """``wanted`` with the name of a link that is its own, which is reserved for it from then on."""
        links = self.mesh.system.links
        names = chain([known.link] if known else [], link_names(wanted.key))
        for name in names:
            others = (*self.attachments, *self._under_way.values())
            if any(one.link == name and one.key != wanted.key for one in others):
                continue
            named = self._under_way[wanted.key] = replace(wanted, link_name=name)
            if may_use(links, name, wanted.key):
                return named
        raise AssertionError("there is always another name")

    async def _take_over_path(self, wanted: Attachment) -> Attachment:
        """Takes the ``resolv.conf`` of ``wanted`` from each attachment that had it for an earlier namespace.

        Such an attachment is detached soon, and would take away with its own what is written for ``wanted``.
        """
        for other in self.attachments:
            is_other = other.key != wanted.key and other.namespace != wanted.namespace
            if is_other and wanted.resolv_conf and other.resolv_conf == wanted.resolv_conf:
                wanted = replace(wanted, resolv_conf_before=other.resolv_conf_before)
                await self.attachments.change(other, resolv_conf=None, resolv_conf_before=None)
        return wanted

    async def _give_back_path(self, known: Attachment, attached: Attachment) -> None:
        """Restores the ``resolv.conf`` of ``known``, whose place ``attached`` has taken, unless another has it now."""
        if any(one.resolv_conf == known.resolv_conf for one in self.attachments):
            return
        try:
            await self.connections.restore_resolv_conf(known)
        except Failed as error:
            log.warning("resolv_conf_left", extra={"instance": str(attached), "reason": str(error)})

    async def _run_steps(
        self, wanted: Attachment, known: Attachment | None, inside: Interior, times: StepTimes, *, wait: bool
    ) -> Attachment:
        begun = await self.connections.begin(_begin(wanted, known))
        async with _beside(self.connections.write_files(begun)) as files:
            begun, record = await self._make_ready(begun, known, files, inside, times, wait=wait)
        if wait:
            await self._wait_for_hosts("answer", begun, record, times)
        with times.timed("lookup"):
            begun = self.attachments.get(begun.key) or begun  # another attach may have taken its resolv.conf over
            keeping = self.attachments.change(begun, phase=Phase.ATTACHED, revision=record.revision)
            attached, _ = await _both(keeping, self._look_up(begun, record, inside))
        return attached

    async def _make_ready(
        self,
        begun: Attachment,
        known: Attachment | None,
        files: asyncio.Task[None],
        inside: Interior,
        times: StepTimes,
        *,
        wait: bool,
    ) -> tuple[Attachment, Committed]:
        """Has ``begun`` connected and recorded as ready, with ``files`` written before that.

        Gives it with its address, and the record.
        """
        if wait and known is None and (expected := self._expected(begun)):
            begun, record = await self._connect_first(begun, expected, files, inside, times)
            if not record.is_starting:
                return begun, record
        else:
            begun, record = await self._record(begun, State.STARTING if wait else State.READY, times)
        connect = self._connect(begun, inside, times)
        reach = self._wait_for_hosts("path", begun, record, times) if wait else self._wait_here(begun, record)
        await _at_once(connect, reach, _ended(files))
        if wait:
            with times.timed("ready"):
                record = await self.records.put(begun, State.READY)
        return begun, record

    def _expected(self, begun: Attachment) -> Connected | None:
        published = self.mesh.published
        if published.stale_since is not None or not self.records.takes_connected:
            return None
        environment = published.environments.get(begun.environment)
        return expect(begun, environment, self.mesh.identity.id, self.attachments)

    async def _connect_first(
        self, begun: Attachment, expected: Connected, files: asyncio.Task[None], inside: Interior, times: StepTimes
    ) -> tuple[Attachment, Committed]:
        """Connects ``begun`` as ``expected``, and has it recorded; as starting if not all is as expected."""
        begun = self.attachments.change_in_memory(begun, address=Address.parse(expected.address))
        with self.mesh.not_committed(begun.link, begun.environment):
            await _at_once(self._connect(begun, inside, times), _ended(files))
            return await self._record(begun, State.READY, times, expected)

    async def _record(
        self, begun: Attachment, state: State, times: StepTimes, connected: Connected | None = None
    ) -> tuple[Attachment, Committed]:
        with times.timed("record"):
            record = await self.records.put(begun, state, connected)
        # The disk hears of it at the end. Should the agent be killed before, the next one asks for the record again.
        begun = self.attachments.change_in_memory(
            begun, address=Address.parse(record.address), revision=record.revision
        )
        self.mesh.committed(begun.link, begun.environment, record.revision)
        return begun, record

    async def _connect(self, begun: Attachment, inside: Interior, times: StepTimes) -> None:
        with times.timed("connect"):
            await self.connections.make(begun, inside)

    async def _wait_for_hosts(self, step: str, begun: Attachment, record: Committed, times: StepTimes) -> None:
        with times.timed(step):
            await _at_once(self._wait_here(begun, record), self._wait_for_others(step, begun, record, times))

    async def _wait_for_others(self, step: str, begun: Attachment, record: Committed, times: StepTimes) -> None:
        times.note_lagging(step, await self.barrier.wait(begun.environment, record.revision))

    async def _wait_here(self, begun: Attachment, record: Committed) -> None:
        with contextlib.suppress(TimeoutError):  # the look-up will say what is wrong
            async with asyncio.timeout(DEADLINE):
                await self.mesh.notifier.until_answered(begun.environment, record.revision)

    async def _look_up(self, begun: Attachment, record: Committed, inside: Interior) -> None:
        if not record.enabled:
            raise Refused(f"private networking is switched off for {begun.environment}: enable it first")
        platform = self.mesh.platform
        service = platform.apex.child(record.service)
        assert begun.address is not None
        await look_up(inside.udp, platform.resolver, service, service.child(begun.instance), begun.address)

    async def _undo(self, wanted: Attachment, before: Attachment | None, error: BaseException) -> None:
        known = self.attachments.get(wanted.key)
        if known is None:
            return
        if before and before.phase is Phase.ATTACHED and before.namespace in (None, known.namespace):
            # This attach was to repair a workload that is in use: it stays attached, and the caller can try again.
            await self.attachments.put(before)
            return
        log.warning("attach_failed", extra={"instance": str(wanted), "reason": str(error) or type(error).__name__})
        with contextlib.suppress(AgentError):
            await asyncio.shield(self._undo_recorded(known))

    async def _undo_recorded(self, known: Attachment) -> None:
        """Detaches ``known``, whose attach has failed.

        Its names may be answered: so it stays connected until its record is gone. `Upkeep` sees to that where no
        control plane answers now.
        """
        try:
            await self._detach(replace(known, phase=Phase.DETACHING), offline=False)
        except (Unavailable, LeaseLost):
            self._undoing.add(known.key)

    async def detach(self, attachment: Attachment, *, offline: bool = False) -> bool:
        """Detaches ``attachment``; False if its record is there still, which `Upkeep` removes later.

        That may be only with ``offline``, which cuts the workload off even if no control plane answers. Else it raises
        `NotNow` then, and the workload stays attached.
        """
        async with self._lock(attachment.key):
            with as_agent_errors():
                known = self.attachments.get(attachment.key)
                if known and not offline:
                    await self.records.fate(known)  # asked before anything is cut: does a control plane answer?
                return await self._detach(known, offline=offline) if known else True

    async def _detach(self, known: Attachment, *, offline: bool = True) -> bool:
        try:
            leaving = await self.attachments.change(known, phase=Phase.DETACHING)
        except Failed as error:
            # A full disk keeps nobody attached: a detach makes room. Should the agent end in the middle of it, the
            # comparison finds that the record is gone, and the workload is detached then.
            log.warning("detach_not_kept", extra={"instance": str(known), "reason": str(error)})
            leaving = self.attachments.change_in_memory(known, phase=Phase.DETACHING)
        try:
            await self._remove_record(leaving)
            is_recorded = False
        except (Unavailable, LeaseLost) as error:
            if not offline:
                await self.attachments.change(leaving, phase=known.phase)
                raise
            log.warning("detach_unfinished", extra={"instance": str(leaving), "reason": str(error)})
            is_recorded = True
        await self.connections.remove(leaving)
        if not is_recorded:
            self._undoing.discard(leaving.key)
            await self.attachments.remove(leaving)
            self.counts.detached += 1
            log.info("detached", extra={"instance": str(leaving)})
        return not is_recorded

    async def _remove_record(self, leaving: Attachment) -> None:
        """Removes the record, and waits until the other hosts have stopped answering its names."""
        with contextlib.suppress(Missing):  # the environment is gone, and the record with it
            if (revision := await self.records.remove(leaving)) is not None:
                await self.barrier.wait(leaving.environment, revision, deadline=LEAVE_DEADLINE)

    async def check(self, wanted: Attachment) -> Attachment:
        """The attachment of ``wanted``. Raises `NotThere` if there is none, `Failed` if a part of it is missing."""
        known = self.attachments.get(wanted.key)
        if known is None or known.phase is not Phase.ATTACHED:
            raise NotThere(f"{wanted} is not attached to this host")
        with opened(wanted.netns) as namespace:
            if known.namespace not in (None, await identify(namespace)):
                raise Failed(f"{wanted} was attached in another network namespace than {wanted.netns}: attach it again")
            compared = replace(known, netns=wanted.netns, interface=wanted.interface)
            faults = await self.connections.find_faults(compared, namespace)
        if faults:
            raise Failed(f"{wanted}: {'; '.join(faults)}: attach it again")
        return known

    async def resume(self, attachment: Attachment) -> None:
        """Finishes ``attachment`` from whatever state it was left in, or detaches it if its workload is gone."""
        is_leaving, lives = attachment.phase is Phase.DETACHING, await self._lives(attachment)
        if lives and not is_leaving:
            await self.attach(attachment)
            return
        async with self._lock(attachment.key):
            known = self.attachments.get(attachment.key)
            if known is None or known.namespace != attachment.namespace:
                return  # it was attached anew meanwhile, in another namespace
            if is_leaving and known.phase is not Phase.DETACHING:
                return  # or in the same one
            if not is_leaving:
                log.warning("workload_gone", extra={"instance": str(attachment), "netns": attachment.netns})
            with as_agent_errors():
                await self._detach(known, offline=not (lives and known.key in self._undoing))

    async def _lives(self, attachment: Attachment) -> bool:
        """Whether the namespace at the path of ``attachment`` is the one that it was attached in."""
        try:
            with opened(attachment.netns) as namespace:
                if attachment.namespace is not None:
                    return await identify(namespace) == attachment.namespace
                # An earlier release did not keep the namespace id. A veth ends with its namespace, so a veth that is
                # there shows that the namespace is still the same.
                return await self.connections.has_veth(attachment, namespace)
        except (NotThere, BadRequest):
            return False

    async def set_draining(self, attachment: Attachment, *, draining: bool) -> None:
        """Takes ``attachment`` out of its service's answers, or puts it back. Its open connections go on."""
        async with self._lock(attachment.key):
            known = self.attachments.get(attachment.key)
            if known is None or known.phase is not Phase.ATTACHED:
                return
            with as_agent_errors():
                await self.records.set_state(known, State.DRAINING if draining else State.READY)
            await self.attachments.change(known, is_draining=draining)

    async def repair(self, key: str) -> Sequence[str]:
        """Puts right what was changed inside the workload ``key``; gives what that was, in words.

        Nothing is done for a workload that has lost its link or its namespace: `Upkeep` does that.
        """
        async with self._lock(key):
            known = self.attachments.get(key)
            if known is None or known.phase is not Phase.ATTACHED or not self.mesh.system.links.exists(known.link):
                return ()
            try:
                with opened(known.netns) as namespace:
                    if await identify(namespace) == known.namespace:
                        return await self.connections.repair(known, namespace)
            except (NotThere, BadRequest):
                pass  # its path has gone, and perhaps its namespace with it
        return ()

    async def withdraw_absent(self, environment: EnvironmentId, service: str, instance: str) -> bool:
        """Takes an instance that does not run here out of its service's answers. False where nothing was to be done."""
        key = key_of(environment, service, instance)
        async with self._lock(key):
            if self.attachments.get(key):
                return False
            with as_agent_errors():
                return await self.records.withdraw(environment, service, instance)

    async def mark_attached(self, attachment: Attachment, state: State) -> None:
        """Has the instance of ``attachment``, which is in ``state``, count as attached here."""
        async with self._lock(attachment.key):
            if self.attachments.get(attachment.key) != attachment:
                return
            with as_agent_errors():
                await self.records.mark_attached(attachment, state)

    async def settle_unrecorded(self, attachment: Attachment) -> None:
        """Detaches ``attachment`` if somebody has removed its record; commits the record again if the store lost it."""
        async with self._lock(attachment.key):
            known = self.attachments.get(attachment.key)
            if known is None or known.phase is not Phase.ATTACHED:
                return
            with as_agent_errors():
                fate = await self.records.fate(known)
                if fate is Fate.REMOVED:
                    log.warning("record_removed", extra={"instance": str(known), "address": str(known.address)})
                    await self._detach(known)
        if fate is Fate.LOST:
            log.warning("record_lost", extra={"instance": str(attachment), "address": str(attachment.address)})
            await self.attach(attachment)

    def _lock(self, key: str) -> asyncio.Lock:
        """Held by whatever changes the attachment ``key``: one change of it at a time."""
        return self._locks.setdefault(key, asyncio.Lock())


def _identified(wanted: Attachment, inside: Interior) -> Attachment:
    """``wanted`` with the id of its namespace. Raises `NotThere` where ``wanted`` has the id of another one."""
    if wanted.namespace not in (None, inside.id):
        raise NotThere(f"the network namespace that was at {wanted.netns} is gone, and another one is there now")
    return replace(wanted, namespace=inside.id)


def _begin(wanted: Attachment, known: Attachment | None) -> Attachment:
    """``wanted`` as it is when its attach begins. ``known`` is the earlier attachment of the same instance, if any."""
    address = known.address if known else None
    before = wanted.resolv_conf_before
    if known and known.resolv_conf == wanted.resolv_conf:
        before = known.resolv_conf_before
    return replace(wanted, phase=Phase.ATTACHING, address=address, resolv_conf_before=before)


def _is_same(known: Attachment, wanted: Attachment) -> bool:
    where = (wanted.netns, wanted.interface, wanted.resolv_conf)
    is_there = (known.netns, known.interface, known.resolv_conf) == where
    return known.phase is Phase.ATTACHED and is_there and known.namespace in (None, wanted.namespace)


@contextlib.asynccontextmanager
async def _beside(work: Coroutine[None, None, None]) -> AsyncIterator[asyncio.Task[None]]:
    """Does ``work`` beside the body, which may wait for it by `_ended`. It has ended when the body has, however."""
    task = asyncio.create_task(work)
    try:
        yield task
    finally:
        await asyncio.wait([task])
        if not task.cancelled():
            task.exception()  # the body has raised it, or another one before it


async def _ended(task: asyncio.Task[None]) -> None:
    await asyncio.shield(task)


async def _both(first: Awaitable[T], second: Awaitable[S]) -> tuple[T, S]:
    """What both give. They run at the same time, and both have ended when the error of one of them is raised."""
    done = await asyncio.gather(first, second, return_exceptions=True)
    if failed := [error for error in done if isinstance(error, BaseException)]:
        raise failed[0]
    return done  # type: ignore[return-value]


async def _at_once(*steps: Coroutine[None, None, None]) -> None:
    """Runs ``steps`` at the same time. If one fails, the others are cancelled and its error is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            for step in steps:
                group.create_task(step)
    except BaseExceptionGroup as several:
        raise several.exceptions[0] from None
