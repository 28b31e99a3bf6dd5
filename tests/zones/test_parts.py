"""Parts: a difference makes of one revision the next one, shares what did not change, and lets nothing invalid by."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tests import worlds
from tests.worlds import NOW, PRODUCTION, build, production
from tests.zones.strategies import edits, environments
from zones import document, parts
from zones.addresses import Address, Platform
from zones.edits import DeleteInstance, DeleteService, Edit, PutInstance, PutRecord, PutService, apply
from zones.errors import Invalid, ZonesError
from zones.model import Environment, RecordSet, State
from zones.names import Name
from zones.parts import Difference, Touched, apply_difference, apply_differences, difference, growth
from zones.placement import HostsAway
from zones.zone import Zone, compile_next, compile_zone


@given(
    first=environments(),
    commits=st.lists(st.lists(edits, min_size=1, max_size=4), max_size=6),
    is_together=st.booleans(),
)
def test_reading_by_part_gives_what_reading_whole_gives(
    first: Environment, commits: list[list[Edit]], *, is_together: bool
) -> None:
    """One difference after the other, or all of them at once."""
    read, last, found = first, first, list[Difference]()
    for step, commit in enumerate(commits):
        try:
            after = apply(last, commit, NOW + (40 + step) * 1000)
        except ZonesError:
            continue
        if after is not last:
            found.append(parts.decode(parts.encode(difference(last, after))))
            read = take(read, found[-1])
        last = after
    if is_together:
        read = apply_differences(first, found)
    assert read == last == document.decode(document.encode(last))
    worlds.compiled(read, NOW + 60_000)


@given(environments(), environments())
def test_any_two_revisions_have_a_difference(one: Environment, other: Environment) -> None:
    """Also those that no edit lies between."""
    other = replace(other, revision=one.revision + 7)
    assert take(one, difference(one, other)) == other


def test_what_did_not_change_is_the_same_object() -> None:
    before = production()
    after = take(before, difference(before, apply(before, [PutInstance("api", "a1", State.DRAINING)], NOW)))
    assert after.services["api"] != before.services["api"]
    assert all(after.services[name] is before.services[name] for name in before.services if name != "api")
    others = before.services["api"].instances.keys() - {"a1"}
    assert others
    assert all(after.services["api"].instances[id_] is before.services["api"].instances[id_] for id_ in others)
    assert (after.records, after.peers) == (before.records, before.peers)


def test_a_difference_has_the_parts_that_changed_alone() -> None:
    before = production()
    api = before.services["api"]
    added = difference(before, apply(before, [PutInstance("api", "a9", State.READY)], NOW))
    assert list(added.services) == ["api"]  # the highest number that was given stands there
    assert {name: list(ids) for name, ids in added.instances.items()} == {"api": ["a9"]}
    moved = difference(before, apply(before, [PutInstance("api", "a1", region="mars")], NOW))
    assert not moved.services
    assert moved.instances == {"api": {"a1": replace(api.instances["a1"], region="mars")}}
    assert (moved.head, moved.records, moved.peers) == (None, {}, {})
    assert len(parts.encode(moved)) < 200
    gone = difference(before, apply(before, [DeleteService("api")], NOW))
    assert (gone.services, gone.instances) == ({"api": None}, {})


def test_a_service_that_was_made_anew_in_one_commit_has_its_new_subnet() -> None:
    before = production()
    again: list[Edit] = [DeleteService("api"), PutService("api"), PutInstance("api", "new", State.READY)]
    after = apply(before, again, NOW)
    assert after.services["api"].subnet != before.services["api"].subnet
    assert take(before, difference(before, after)) == after


def test_a_difference_is_applied_to_its_own_revision_alone() -> None:
    before = production()
    after = apply(before, [DeleteInstance("api", "a1")], NOW)
    found = difference(before, after)
    for wrong in (after, replace(before, id="staging"), replace(before, revision=before.revision + 5)):
        with pytest.raises(Invalid, match="cannot be applied"):
            apply_difference(wrong, found)


ADDRESS = production().services["api"].instances["a1"].address
BAD = {
    "an instance of a service that is not there": {"instances": {"nope": {"a1": {"address": str(ADDRESS)}}}},
    "an address twice": {"instances": {"api": {"x1": {"address": str(ADDRESS), "state": "ready"}}}},
    "an address of another subnet": {"instances": {"api": {"x1": {"address": "fd12::5", "state": "ready"}}}},
    "an id that is none": {"instances": {"api": {"all": {"address": str(Address.parse("::")), "state": "ready"}}}},
    "a subnet twice": {"services": {"more": {"subnet": str(production().services["api"].subnet)}}},
    "a reserved name": {"services": {"ns": {"subnet": "fd12:5b1e:90c4:99::/64"}}},
    "a subnet elsewhere": {"services": {"more": {"subnet": "fd12:5b1e:90c5:99::/64"}}},
    "a former name that is in use": {
        "services": {"more": {"subnet": "fd12:5b1e:90c4:99::/64", "former_names": {"api": 5}}}
    },
    "a record below a service": {"records": {"x.api": {"A": {"ttl": 1, "values": ["192.0.2.1"]}}}},
    "a record of the platform's": {"records": {"x": {"AAAA": {"ttl": 1, "values": ["fd12:1::1"]}}}},
    "a peer's address": {"peers": {"p": {"public_key": "x", "address": "fd12::1", "gateway": "h1"}}},
    "an unknown part": {"shiny": {}},
    "no JSON": b"{",
    "no text": b'{"id":"\xff"}',
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_nothing_invalid_comes_in_by_a_difference(bad: dict[str, object] | bytes) -> None:
    before = production()
    first = {"id": PRODUCTION, "before": before.revision, "revision": before.revision + 1}
    written = bad if isinstance(bad, bytes) else json.dumps({**first, **bad}).encode()
    with pytest.raises(ZonesError):
        apply_difference(before, parts.decode(written))


def test_a_service_does_not_take_the_name_of_records() -> None:
    before = build(PRODUCTION, 1, PutService("api"), PutRecord("x.new", "A", RecordSet(5, ("192.0.2.1",))))
    with pytest.raises(ZonesError, match="belongs to the service"):
        apply(before, [PutService("new")], NOW)
    with pytest.raises(ZonesError, match="belongs to the service"):
        apply(before, [PutService("api", rename="new")], NOW)


@given(environments(), environments())
def test_the_growth_of_a_document_is_known_without_writing_it(one: Environment, other: Environment) -> None:
    other = replace(other, revision=one.revision + 7)
    found = difference(one, other)
    named = len(found.services) + len(found.instances) + len(found.records) + len(found.peers) + 4
    grown = len(document.encode(other)) - len(document.encode(one))
    assert abs(grown - growth(one, found)) < 60 * (named + sum(map(len, found.instances.values())))


def test_digests_follow_from_each_other() -> None:
    before = production()
    after = apply(before, [DeleteInstance("api", "a1")], NOW)
    first, written = document.digest(document.encode(before)), parts.encode(difference(before, after))
    assert parts.next_digest(first, written) == parts.next_digest(first, bytes(bytearray(written)))
    assert len({parts.next_digest(first, written), parts.next_digest("0" * 32, written), first}) == 3
    assert parts.next_digest(first, written + b" ") != parts.next_digest(first, written)


def take(before: Environment, found: Difference) -> Environment:
    """Over the wire, as a reader does."""
    return apply_difference(before, parts.decode(parts.encode(found)))


@given(
    first=environments(),
    commits=st.lists(st.lists(edits, min_size=1, max_size=4), max_size=6),
    away=st.sampled_from([HostsAway(), HostsAway(frozenset({"h1"})), HostsAway(frozenset(), frozenset({"h1"}))]),
    is_together=st.booleans(),
)
def test_a_zone_compiled_by_part_is_the_one_compiled_whole(
    first: Environment, commits: list[list[Edit]], away: HostsAway, *, is_together: bool
) -> None:
    platform, last, found = Platform(), first, list[Difference]()
    zone = compile_zone(platform, first, NOW, away)
    for step, commit in enumerate(commits):
        now = NOW + step * 1000
        try:
            after = apply(last, commit, now)
        except ZonesError:
            continue
        if after is not last:
            found.append(difference(last, after))
            if not is_together:
                zone = compile_next(zone, after, Touched.by(found[-1:]), now)
                check_same(zone, compile_zone(platform, after, now, away))
        last = after
    if is_together:
        zone = compile_next(zone, last, Touched.by(found), NOW + 9000)
        check_same(zone, compile_zone(platform, last, NOW + 9000, away))


def check_same(one: Zone, other: Zone) -> None:
    assert (one.revision, one.valid_until, one.away) == (other.revision, other.valid_until, other.away)
    assert one._members == other._members
    assert one._by_subnet == other._by_subnet
    assert one._records == other._records
    for qname in ("_services.railway.internal", "api.railway.internal", "railway.internal"):
        assert one.find(Name.parse(qname)) == other.find(Name.parse(qname))
