"""The doctor of a control plane, behind ``GET /v1/doctor`` and ``GET /v1/explain``."""

from __future__ import annotations

import asyncio
import difflib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from admin.resources.operations import Probe
from agent.examine.facts import HostFacts, decode_facts
from agent.examine.question import Question, encode_question
from interlock.doctor.clients import client_network, find_client, is_address, judge_client, judge_stranger
from interlock.doctor.host import judge_host
from interlock.doctor.judge import judge_workloads
from interlock.doctor.marks import Mark, Report, Standing, as_stage, broken, unknown
from interlock.doctor.names import judge_environment, judge_name, meant_name
from interlock.doctor.peers import judge_peers
from interlock.doctor.plane import DEADLINE, PlaneFacts, examine_plane, judge_plane
from interlock.observe.explain import explain_answer, explain_stages
from interlock.settings.values import parse_type
from resolver.wire.messages import Rcode
from store.errors import StoreError
from store.store import Store
from support.clock import unix_milliseconds
from support.patience import patience
from zones.addresses import Platform
from zones.edits import must_exist
from zones.errors import Invalid
from zones.names import EnvironmentId, Name
from zones.records import RRType, type_name
from zones.zone import Zone, compile_zone

ADVICE = "'interlock env list' has those that there are"
NEAR = 3  # environments that are named in the place of one that does not exist
HOST_SECONDS = 1.1  # for the facts of a host; its own probes take 0.8 at most
MOST_ASKED = 8  # hosts that are asked about one name
_BEHIND = frozenset({"sockets", "connection"})  # marks of agents that an explanation shows also where all is well
_OF_THE_PLANE = frozenset(
    {"host", "revision", "client", "instances"}
)  # marks that an explanation has beside its stages
_CAUSES = frozenset({"host", "client"})  # marks that, where they are broken, stand before the stages that they spoil

AskHost = Callable[[str, str], Awaitable[str | None]]
"""Asks the agent of a host a question, and gives the facts, both in JSON; None where it has no session here."""


@dataclass(frozen=True, slots=True)
class DoctorService:
    """Examines and explains from what ``store`` holds now."""

    store: Store
    """Where everything is."""
    platform: Platform
    """The address plan, and the zone."""
    readiness: Callable[[], Mapping[str, Probe]]
    """What the process says of itself, part by part."""

    ask_host: AskHost | None = None
    """Asks the agent of a host; None where this process serves none."""

    async def diagnose(
        self,
        environment: EnvironmentId | None,
        name: str | None,
        source: str | None,
        host: str | None = None,
        *,
        is_whole: bool,
    ) -> dict[str, Any]:
        """The report about the platform, ``host``, or ``name`` in ``environment``, for the client ``source``.

        ``is_whole`` says whether whoever asks may hear of the store and of all hosts, and not only of the environment.
        Raises `Invalid` for what is no name.
        """
        facts = await examine_plane(self.store, self.readiness, environment)
        marks = list(judge_plane(facts)) if is_whole else []
        if environment is not None:
            marks += await self._judge_environment(facts, environment, name, source, is_whole=is_whole)
        elif source is not None and is_address(source) and is_whole:
            marks += await self._judge_source(source)
        if host is not None:
            marks += await self._judge_host(host, facts, environment)
        return Report.of(marks).as_json()

    async def explain(
        self,
        environment: EnvironmentId | None,
        qname: Name,
        qtype: str,
        source: str | None = None,
        *,
        is_whole: bool = False,
    ) -> dict[str, Any]:
        """What clients of ``environment``, or the client ``source``, are told about ``qname`` and why, fit for JSON.

        Without ``environment`` it is the one that the address ``source`` belongs to. Raises `Missing` where there is no
        such environment, `Invalid` for what is no type or no address, and `Unavailable`.
        """
        try:
            number = parse_type(qtype)
        except ValueError as error:
            raise Invalid(str(error), field="type") from None
        if environment is None and (environment := await self._environment_of(source or "")) is None:
            return _refused(qname, number, judge_stranger(source or ""))
        _revision, found = await self.store.environments.read(environment)
        must_exist(environment, found, advice=ADVICE)
        now = await self.store.clock.milliseconds()
        facts = await examine_plane(self.store, dict, environment)
        found = must_exist(environment, facts.environment or found, advice=ADVICE)
        # In a thread, for a large environment takes long enough to compile that queries would notice.
        zone = await asyncio.to_thread(compile_zone, self.platform, found, now, facts.away)
        explanation = await asyncio.to_thread(explain_answer, zone, qname, number)
        marks = [mark for mark in judge_name(zone, qname, number, facts.known) if mark.check in _OF_THE_PLANE]
        if source is not None:
            marks.insert(0, await self._judge_client(facts, source, is_whole=is_whole))
        behind = await self._look_behind(zone, qname, facts)
        marks += [mark for mark in behind if mark.check in _BEHIND or mark.fix]
        shown = Report.of(mark for mark in marks if mark.check != "instances" or mark.fix).marks
        causes = [mark for mark in shown if mark.check in _CAUSES and mark.standing is Standing.BROKEN]
        explanation["stages"][:0] = [as_stage(mark) for mark in causes]
        explanation["stages"] += [as_stage(mark) for mark in shown if mark not in causes]
        return explanation

    async def _judge_environment(
        self, facts: PlaneFacts, id_: EnvironmentId, name: str | None, source: str | None, *, is_whole: bool
    ) -> list[Mark]:
        if facts.is_missing:
            return [await self._judge_missing(id_, is_whole=is_whole)]
        if facts.environment is None:
            return [unknown("environment", f"whether {id_} is as it should be is not known: the store does not answer")]
        marks: list[Mark] = []
        if source is not None:
            marks.append(await self._judge_client(facts, source, is_whole=is_whole))
        now = unix_milliseconds(self._now)
        zone = await asyncio.to_thread(compile_zone, self.platform, facts.environment, now, facts.away)
        if name is None:
            return [*marks, *judge_environment(zone, facts.known)]
        qname = meant_name(name, zone)
        marks += judge_name(zone, qname, RRType.AAAA, facts.known)
        return [*marks, *await self._look_behind(zone, qname, facts)]

    async def _look_behind(self, zone: Zone, qname: Name, facts: PlaneFacts) -> list[Mark]:
        """What the agents see of the instances of ``qname``: whether programs there accept connections, and more."""
        explained = explain_stages(zone, qname, RRType.AAAA)
        if explained.service is None or self.ask_host is None:
            return []
        instances = zone.environment.services[explained.service].instances
        chosen = [one for id_, one in instances.items() if explained.instance in (None, id_)]
        hosts = sorted({one.host for one in chosen if one.host is not None and one.host in (facts.live or ())})
        question = Question(
            environment=zone.id, has_document=True, service=explained.service, instance=explained.instance
        )
        marks: list[Mark] = []
        for host, found in zip(hosts, await self._ask_hosts(hosts[:MOST_ASKED], question), strict=False):
            if isinstance(found, str):
                marks.append(unknown("sockets", f"what host {host} sees of it is not known: {found}", _on(host)))
            else:
                resolver = str(self.platform.resolver)
                marks += judge_workloads(found, zone.environment, resolver, is_asked=True)
        return marks

    async def _ask_hosts(self, hosts: Sequence[str], question: Question) -> list[HostFacts | str]:
        """The facts of each of ``hosts``; for one that does not give them, why."""
        ask = self.ask_host
        assert ask is not None

        async def ask_one(host: str) -> HostFacts | str:
            try:
                async with asyncio.timeout(HOST_SECONDS * patience()):
                    answer = await ask(host, encode_question(question))
                return decode_facts(answer.encode()) if answer else "its agent has no session with this control plane"
            except TimeoutError:
                return f"its agent has not answered within {HOST_SECONDS:g} s"
            except ValueError as error:
                return f"its agent is of another release: {error}"

        return list(await asyncio.gather(*(ask_one(host) for host in hosts)))

    async def _judge_host(self, host: str, facts: PlaneFacts, environment: EnvironmentId | None) -> list[Mark]:
        """What the agent of ``host`` says of it."""
        if self.ask_host is None:
            return [unknown("agent", "this control plane serves no agents (--hosts-listen)", _on(host))]
        (found,) = await self._ask_hosts([host], Question(environment=environment, has_document=True))
        if isinstance(found, str):
            return [broken("agent", f"host {host}: {found}", _on(host))]
        marks = [*judge_host(found), *judge_peers(found)]
        return [*marks, *judge_workloads(found, facts.environment, str(self.platform.resolver), is_asked=False)]

    async def _judge_missing(self, id_: EnvironmentId, *, is_whole: bool) -> Mark:
        near: list[str] = []
        if is_whole:
            try:
                async with asyncio.timeout(DEADLINE * patience()):
                    index = await self.store.environments.index()
                near = difflib.get_close_matches(id_, [one for one, entry in index.items() if entry.digest], NEAR)
            except (StoreError, TimeoutError):
                pass
        meant = f"; there is {', '.join(near)}" if near else ""
        fix = f"-e {near[0]}" if near else "interlock env list"
        return broken("environment", f"there is no environment {id_}{meant}", fix)

    async def _judge_client(self, facts: PlaneFacts, source: str, *, is_whole: bool) -> Mark:
        environment = facts.environment
        assert environment is not None
        client = find_client(environment, source)
        owner = await self._owner(source) if client is None and is_whole else None
        return judge_client(source, environment, client, None if owner == environment.id else owner)

    async def _judge_source(self, source: str) -> list[Mark]:
        owner = await self._owner(source)
        if owner is None:
            return [judge_stranger(source)]
        _revision, environment = await self.store.environments.read(EnvironmentId(owner))
        if environment is None:
            return [judge_stranger(source)]
        return [judge_client(source, environment, find_client(environment, source), owner)]

    async def _environment_of(self, source: str) -> EnvironmentId | None:
        if not is_address(source):
            raise Invalid(f"{source!r} is no address: name the environment that it is in", field="environment")
        owner = await self._owner(source)
        return EnvironmentId(owner) if owner is not None else None

    async def _owner(self, source: str) -> str | None:
        if not is_address(source) or (network := client_network(source, self.platform)) is None:
            return None
        return (await self.store.environments.networks()).get(network)

    def _now(self) -> float:
        return self.store.clock.now()


def _refused(qname: Name, qtype: int, mark: Mark) -> dict[str, Any]:
    return {
        "environment": None,
        "name": str(qname),
        "type": type_name(qtype),
        "revision": None,
        "rcode": Rcode.REFUSED.name,
        "answer": [],
        "stages": [as_stage(mark)],
    }


def _on(host: str) -> str:
    return f"on {host}: interlock doctor"
