"""Judges a name in an environment: what is answered, and whether what is answered can be reached, as far as is known.

The stages of an explanation say how the answer comes about; the marks here say what a client would find behind it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

from interlock.doctor.marks import Mark, broken, ok, warning
from interlock.observe.explain import FORWARDED, Explained, explain_stages
from interlock.settings.values import parse_qname
from zones.errors import Invalid
from zones.model import Environment, Instance, State
from zones.names import Name
from zones.placement import NONE_AWAY, HostsAway, why_not_answered
from zones.zone import Zone

SHOWN = 5  # instances that a sentence names


@dataclass(frozen=True, slots=True)
class HostsKnown:
    """What is known of the hosts, by whoever judges."""

    registered: Collection[str] | None = None
    """The hosts that are registered; None where that is not known."""
    live: Collection[str] | None = None
    """Those whose lease is renewed; None where that is not known."""
    lagging: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The live hosts that have not acknowledged the newest revision, by environment."""
    enrolling: Mapping[str, bool] = field(default_factory=dict)
    """Hosts that were let in, of those that are not registered: whether a token is still valid for them."""


def judge_name(zone: Zone, qname: Name, qtype: int, hosts: HostsKnown) -> Iterator[Mark]:
    """The marks of ``qname`` for a client of the environment of ``zone``."""
    explained = explain_stages(zone, qname, qtype)
    environment = zone.environment
    if not environment.enabled:
        yield _switched_off(environment)
        return
    yield ok("environment", f"{environment.id}, revision {environment.revision}: private networking is on")
    yield from _judge_stages(explained, environment)
    for service, instances in _instances(explained, environment).items():
        yield from judge_instances(environment, service, instances, hosts, zone.away)


def judge_environment(zone: Zone, hosts: HostsKnown) -> Iterator[Mark]:
    """The marks of all of the environment of ``zone``. A service that nobody has deployed yet is no fault."""
    environment = zone.environment
    if not environment.enabled:
        yield _switched_off(environment)
        return
    yield ok("environment", f"{environment.id}, revision {environment.revision}: private networking is on")
    for name, service in environment.services.items():
        if service.instances:
            yield from judge_instances(environment, name, service.instances, hosts, zone.away)


def meant_name(text: str, zone: Zone) -> Name:
    """The name that ``text`` means: below the zone, where that exists, or as it is written. Raises `Invalid`."""
    try:
        written = parse_qname(text, zone.apex)
    except ValueError as error:
        raise Invalid(str(error), field="name") from None
    if zone.apex_of(written) is not None or text.endswith("."):
        return written
    try:
        below = Name.of((*written.labels, *zone.apex.labels))
    except ValueError:
        return written
    last = written.labels[-1].decode("latin-1") if written.labels else ""
    return below if zone.find(below) or last in zone.environment.services else written


def judge_instances(
    environment: Environment,
    service: str,
    instances: Mapping[str, Instance],
    hosts: HostsKnown,
    away: HostsAway = NONE_AWAY,
) -> Iterator[Mark]:
    """The marks of ``instances`` of ``service``: whether any is answered, and whether their hosts live."""
    id_ = environment.id
    ready = [one for one in instances.values() if one.state is State.READY]
    if not instances:
        yield broken(
            "instances",
            f"{service} of {id_} has no instance, so the answer is empty (NODATA)",
            f"interlock attach -e {id_} --service {service} --instance ID --netns NAME, on the host that is to run it",
        )
        return
    if not ready:
        yield _judge_none_ready(environment, service, instances, hosts)
    else:
        yield from _judge_ready(environment, service, instances, away)
    on_host: dict[str, list[str]] = {}
    for name, instance in instances.items():
        if instance.host and instance.state is not State.STARTING:
            on_host.setdefault(instance.host, []).append(f"{name}.{service}")
    for host, names in on_host.items():
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        yield from _judge_its_host(f"{', '.join(names[:SHOWN])}{more} of {id_}", host, hosts)
    if late := hosts.lagging.get(id_):
        late_hosts = ", ".join(late)
        yield warning(
            "revision",
            f"{id_}: revision {environment.revision} is not yet on {late_hosts}",
            f"if that stays, run 'interlock doctor' on {late_hosts}",
        )


def _judge_ready(
    environment: Environment, service: str, instances: Mapping[str, Instance], away: HostsAway
) -> Iterator[Mark]:
    """Of the ready ones, which are answered: those with a path."""
    ready = {name: one for name, one in instances.items() if one.state is State.READY}
    why = {name: text for name, one in ready.items() if (text := why_not_answered(one, away))}
    answered = len(ready) - len(why)
    unmanaged = sum(one.host is None for one in ready.values())
    count = f"{answered} of {len(instances)} instances of {service} are answered"
    count += f" ({unmanaged} unmanaged: that they can be reached is their caller's word)" if unmanaged else ""
    if answered:
        yield ok("instances", count)
    for name, text in list(why.items())[:SHOWN]:
        host = ready[name].host
        make = warning if answered else broken
        fix = (
            f"on {host}: systemctl restart interlock-agent; for good: interlock instance delete --host {host}"
            if host in away.down
            else f"on {host}: interlock attach -e {environment.id} --service {service} --instance {name} --netns NAME"
        )
        yield make("instances", f"{name}.{service} of {environment.id} is not answered, for it {text}", fix)


def _switched_off(environment: Environment) -> Mark:
    return broken(
        "environment",
        f"private networking is switched off for {environment.id}, so nothing resolves in it",
        f"interlock env enable {environment.id}",
    )


def _judge_stages(explained: Explained, environment: Environment) -> Iterator[Mark]:
    failed = [stage for stage in explained.stages if not stage.ok and stage.stage in ("zone", "name", "alias", "type")]
    if not failed:
        yield ok("name", f"{explained.name} {explained.type}: {explained.rcode}, {len(explained.answer)} records")
        return
    stage = failed[0]
    if explained.rcode == FORWARDED and "did you mean" not in stage.detail:
        yield ok("name", f"{stage.detail}, so the resolver asks its upstreams, if it has any")
        return
    if stage.stage == "type" and not explained.rcode.startswith("NX"):
        if any(not one.ok and one.stage == "instances" for one in explained.stages):
            return  # there is no record for want of an instance: that mark says more
        yield warning("name", f"{explained.name}: {stage.detail}", f"interlock explain {explained.name}")
        return
    near = stage.detail.partition("; there is ")[2] or stage.detail.partition("did you mean ")[2].rstrip("?")
    fix = f"ask for {near}" if near else f"interlock service list -e {environment.id} shows what there is"
    yield broken("name", stage.detail, fix)


def _judge_none_ready(
    environment: Environment, service: str, instances: Mapping[str, Instance], hosts: HostsKnown
) -> Mark:
    id_ = environment.id
    states = ", ".join(f"{name} ({one.state.value})" for name, one in sorted(instances.items())[:5])
    name, first = next(iter(sorted(instances.items())))
    begin = f"no instance of {service} is ready, so the answer is empty (NODATA): {states}"
    if first.state is State.DRAINING:
        fix = f"interlock host undrain {first.host}" if first.host else f"interlock instance put {service} {name} ready"
        return broken("instances", begin, fix)
    if first.host is None:
        return broken(
            "instances",
            f"{begin}; {name} has no host, so it stays so until somebody says that it is ready",
            f"interlock instance put {service} {name} --state ready -e {id_}",
        )
    if late := hosts.lagging.get(id_):
        return broken(
            "instances",
            f"{begin}; it waits for {', '.join(late)}, which has not taken revision {environment.revision} yet",
            f"on {late[0]}: interlock doctor",
        )
    if hosts.live is not None and first.host not in hosts.live:
        return broken(
            "instances",
            f"{begin}; {name} is on host {first.host}, which is not live",
            f"on {first.host}: systemctl restart interlock-agent",
        )
    return broken(
        "instances",
        f"{begin}; {name} becomes ready when its workload is attached on host {first.host}, and it is not",
        f"on {first.host}: interlock attach -e {id_} --service {service} --instance {name} --netns NAME",
    )


def _judge_its_host(name: str, host: str, hosts: HostsKnown) -> Iterator[Mark]:
    if hosts.registered is not None and host not in hosts.registered and host in hosts.enrolling:
        yield judge_enrolling(f"{name}: ", host, has_token=hosts.enrolling[host])
    elif hosts.registered is not None and host not in hosts.registered:
        yield broken(
            "host",
            f"{name} names host {host}, which is not registered, so nothing can reach it",
            f"interlock host enrol {host}, and start its agent; or delete the instance",
        )
    elif hosts.live is not None and host not in hosts.live:
        yield broken(
            "host",
            f"host {host}, on which {name} runs, is not live: its lease has ended",
            "start the machine, or its agent: systemctl restart interlock-agent; if it never comes back:"
            f" interlock host forget {host}",
        )


def judge_enrolling(about: str, host: str, *, has_token: bool) -> Mark:
    """The mark of a ``host`` that was let in, and whose agent has not registered it; ``about`` begins the sentence."""
    start = f"on {host}: interlock agent --host {host} --api https://ADDRESS:PORT"
    if has_token:
        detail = f"{about}host {host} has a token to enrol with, and its agent has not registered it yet"
        return broken("host", detail, f"{start} --enrol @FILE-WITH-THE-TOKEN")
    detail = f"{about}host {host} has enrolled, and its agent has not registered it yet"
    return broken("host", detail, f"{start}; interlock host list shows it then")


def _instances(explained: Explained, environment: Environment) -> Mapping[str, Mapping[str, Instance]]:
    """The instances that the answer is about, by service: those of the last name of the chain."""
    if explained.service is None:
        return {}
    service = environment.services[explained.service]
    if explained.instance is not None:
        return {explained.service: {explained.instance: service.instances[explained.instance]}}
    return {explained.service: service.instances}
