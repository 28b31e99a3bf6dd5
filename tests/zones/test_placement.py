"""Which instances have a path, by their hosts; and under which names of a zone the others are left out."""

from __future__ import annotations

import pytest

from tests.worlds import NOW, PLATFORM, PRODUCTION, build
from zones.edits import PutInstance, PutService, apply, get_instance
from zones.model import Environment, Port, State
from zones.names import Name
from zones.placement import (
    NONE_AWAY,
    HostsAway,
    Placement,
    has_path,
    instances_on,
    is_on_any,
    placement_of,
    why_not_answered,
)
from zones.records import RRType
from zones.zone import compile_zone

H1, H2, H3 = "h1", "h2", "h3"
WORLD = build(
    PRODUCTION,
    1,
    PutService("api", ports=(Port("http", 80),)),
    PutInstance("api", "free"),
    PutInstance("api", "a1", host=H1, region="eu", attached=True),
    PutInstance("api", "a2", host=H2, region="eu", attached=True),
    PutInstance("api", "put", host=H2, region="us"),
    PutInstance("api", "begun", State.STARTING, H3, attached=True),
    PutService("db"),
    PutInstance("db", "d1", host=H1, attached=True),
)

PLACEMENTS = {
    # instance: (service, away, placement, part of why it is not answered)
    "no host": ("free", "api", NONE_AWAY, Placement.UNMANAGED, ""),
    "attached": ("a1", "api", NONE_AWAY, Placement.ATTACHED, ""),
    "put by the API": ("put", "api", NONE_AWAY, Placement.NOT_ATTACHED, "not attached on its host h2"),
    "its host is down": ("a1", "api", HostsAway(frozenset({H1})), Placement.HOST_DOWN, "the host h1, which is down"),
    "put, and its host is down": ("put", "api", HostsAway(frozenset({H2})), Placement.HOST_DOWN, "which is down"),
    "another host is down": ("a2", "api", HostsAway(frozenset({H1})), Placement.ATTACHED, ""),
    "out of reach": (
        "a1", "api", HostsAway(unreachable=frozenset({H1})), Placement.UNREACHABLE, "which this host cannot reach",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", PLACEMENTS)
def test_the_placement_of_an_instance(case: str) -> None:
    id_, service, away, expected, why = PLACEMENTS[case]
    instance = get_instance(WORLD, service, id_)
    assert placement_of(instance, away) is expected
    assert has_path(instance, away) is (expected not in (Placement.NOT_ATTACHED, Placement.HOST_DOWN))
    assert why in (text := why_not_answered(instance, away))
    assert bool(text) is bool(why)


ANSWERS = {
    # what is away: (away, name → the instances that are answered under it)
    "nothing": (
        NONE_AWAY,
        {"api": "free a1 a2", "all.api": "free a1 a2 begun", "eu.region.api": "a1 a2", "us.region.api": "",
         "put.api": "", "begun.api": "begun", "db": "d1", "one.api": "free a1 a2"},
    ),
    "a host that is down": (
        HostsAway(frozenset({H1})),
        {"api": "free a2", "all.api": "free a2 begun", "eu.region.api": "a2", "a1.api": "", "a2.api": "a2", "db": "",
         "d1.db": "", "one.api": "free a2"},
    ),
    "all hosts": (
        HostsAway(frozenset({H1, H2, H3})),
        {"api": "free", "all.api": "free", "eu.region.api": "", "begun.api": "", "db": ""},
    ),
    "a host out of reach": (
        HostsAway(unreachable=frozenset({H1})),
        # Where a set has nothing else, it is answered all the same.
        {"api": "free a2", "all.api": "free a2 begun", "eu.region.api": "a2", "a1.api": "a1", "db": "d1"},
    ),
    "one down, one out of reach": (
        HostsAway(frozenset({H1}), frozenset({H2})),
        {"api": "free", "eu.region.api": "a2", "a2.api": "a2", "db": ""},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", ANSWERS)
def test_what_a_zone_answers_while_hosts_are_away(case: str) -> None:
    away, expected = ANSWERS[case]
    zone = compile_zone(PLATFORM, WORLD, NOW, away)
    for name, ids in expected.items():
        node = zone.find(Name.parse(f"{name}.railway.internal"))
        assert node is not None, name  # the name exists: NODATA, never NXDOMAIN
        rrset = node.rrsets.get(RRType.AAAA)
        addresses = [str(one) for one in rrset.rdatas] if rrset else []
        assert addresses == [str(_address(WORLD, id_)) for id_ in ids.split()], name


def test_a_port_names_only_what_the_service_answers() -> None:
    zone = compile_zone(PLATFORM, WORLD, NOW, HostsAway(frozenset({H1})))
    node = zone.find(Name.parse("_http._tcp.api.railway.internal"))
    assert node
    targets = [str(one).split()[-1] for one in node.rrsets[RRType.SRV].rdatas]
    assert targets == ["free.api.railway.internal.", "a2.api.railway.internal."]


def test_the_directory_says_what_has_no_path() -> None:
    zone = compile_zone(PLATFORM, WORLD, NOW, HostsAway(frozenset({H1})))
    node = zone.find(Name.parse("_instances.api.railway.internal"))
    assert node
    texts = "\n".join(str(one) for one in node.rrsets[RRType.TXT].rdatas)
    assert "host=h1,path=host-down" in texts
    assert "host=h2,path=not-attached" in texts
    assert texts.count("path=") == 2


def test_an_instance_that_is_moved_is_to_be_attached_again() -> None:
    moved = apply(WORLD, [PutInstance("api", "a1", host=H2)], NOW)
    assert not get_instance(moved, "api", "a1").attached
    kept = apply(WORLD, [PutInstance("api", "a1", State.DRAINING, H1)], NOW)
    assert get_instance(kept, "api", "a1").attached
    freed = apply(WORLD, [PutInstance("api", "put", host=None)], NOW)
    assert placement_of(get_instance(freed, "api", "put"), NONE_AWAY) is Placement.UNMANAGED
    attached = apply(WORLD, [PutInstance("api", "put", host=H2, attached=True)], NOW)
    assert placement_of(get_instance(attached, "api", "put"), NONE_AWAY) is Placement.ATTACHED


def test_what_is_on_a_host() -> None:
    assert instances_on(WORLD, H1) == ["a1.api", "d1.db"]
    assert is_on_any(WORLD, frozenset({H3, "h9"}))
    assert not is_on_any(WORLD, frozenset({"h9"}))


def _address(environment: Environment, id_: str) -> object:
    services = environment.services.values()
    return next(service.instances[id_].address for service in services if id_ in service.instances)
