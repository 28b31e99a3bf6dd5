"""Edits: each says what should be."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tests import worlds
from tests.worlds import NOW, build
from tests.zones.strategies import edits
from zones import document
from zones.addresses import Address, instance_address
from zones.edits import (
    MAX_OVERLAP,
    DeleteInstance,
    DeletePeer,
    DeleteRecord,
    DeleteService,
    Edit,
    PutInstance,
    PutPeer,
    PutRecord,
    PutService,
    SetEnabled,
    apply,
    get_instance,
    get_peer,
    get_record,
    get_service,
    must_exist,
)
from zones.errors import Conflict, Invalid, Missing, ZonesError
from zones.keys import PublicKey
from zones.model import Environment, Instance, Port, RecordSet, State
from zones.records import Rdata, RRType, parse_rdata

SECOND = 1000
KEY, OTHER_KEY = worlds.public_key(1), worlds.public_key(2)

WORLD = (
    PutService("api", ports=(Port("http", 80),)),
    PutInstance("api", "a1", region="eu", host="h1"),
    PutService("web"),
    PutRecord("db", "A", RecordSet(60, ("192.0.2.1",))),
    PutPeer("laptop", KEY, "h1"),
)

REFUSED: dict[str, tuple[Edit, type[ZonesError], str, str]] = {
    # what: (edit, error, field, fragment of the message)
    "service name": (PutService("A"), Invalid, "name", "not a service name"),
    "service named as a number": (PutService("123"), Invalid, "name", "IPv4 address"),
    "rename to a number": (PutService("api", rename="0x10"), Invalid, "rename", "IPv4 address"),
    "instance id of the zone's": (PutInstance("api", "one"), Invalid, "id", "reserved"),
    "reserved service": (PutService("health"), Invalid, "name", "reserved"),
    "service where a record is": (PutService("db"), Conflict, "records.name", "belongs to the service 'db'"),
    "rename of no service": (PutService("no", rename="new"), Missing, "service", "no service 'no'"),
    "rename to a bad name": (PutService("api", rename="A"), Invalid, "rename", "not a service name"),
    "rename to a reserved name": (PutService("api", rename="ns"), Invalid, "rename", "reserved"),
    "rename onto a service": (PutService("api", rename="web"), Conflict, "rename", "'web' exists already"),
    "rename onto a record": (PutService("api", rename="db"), Conflict, "records.name", "belongs to the service"),
    "overlap too long": (PutService("api", rename="x", overlap=MAX_OVERLAP + 1), Invalid, "overlap_seconds", "overlap"),
    "overlap below zero": (PutService("api", rename="x", overlap=-1), Invalid, "overlap_seconds", "overlap of -1"),
    "port": (PutService("web", ports=(Port("a", 1), Port("a", 2))), Invalid, "ports", "two ports"),
    "deleted service": (DeleteService("no"), Missing, "service", "no service 'no'"),
    "instance of no service": (PutInstance("no", "i"), Missing, "service", "no service 'no'"),
    "instance id": (PutInstance("api", "I"), Invalid, "id", "cannot be an instance id"),
    "region": (PutInstance("api", "a1", region="E U"), Invalid, "region", "cannot be a region"),
    "host": (PutInstance("api", "a1", host="-"), Invalid, "host", "cannot be a host id"),
    "deleted instance": (DeleteInstance("api", "no"), Missing, "id", "no instance 'no'"),
    "instance of a deleted service": (DeleteInstance("no", "a1"), Missing, "service", "no service"),
    "record name": (PutRecord("A", "A", RecordSet(1, ("192.0.2.1",))), Invalid, "records.name", "lower case"),
    "record data": (PutRecord("x", "A", RecordSet(1, ("no",))), Invalid, "values", "'x': 'no' is not an IPv4"),
    "record at a service": (PutRecord("api", "TXT", RecordSet(1, ("x",))), Conflict, "records.name", "belongs to"),
    "CNAME beside a record": (PutRecord("db", "CNAME", RecordSet(1, ("a.",))), Conflict, "type", "only record"),
    "deleted record": (DeleteRecord("db", "TXT"), Missing, "name", "no TXT record 'db'"),
    "peer id": (PutPeer("My Laptop", OTHER_KEY, "h1"), Invalid, "id", "cannot be a peer id"),
    "peer without a key": (PutPeer("phone", gateway="h1"), Invalid, "public_key", "needs a public key"),
    "peer without a gateway": (PutPeer("phone", OTHER_KEY), Invalid, "gateway", "host that is its gateway"),
    "peer with a bad key": (PutPeer("phone", PublicKey("x"), "h1"), Invalid, "public_key", "not a public key"),
    "peer with a bad gateway": (PutPeer("laptop", gateway="H"), Invalid, "gateway", "cannot be a host id"),
    "peer with another's key": (PutPeer("phone", KEY, "h2"), Conflict, "public_key", "laptop and phone have one"),
    "deleted peer": (DeletePeer("no"), Missing, "id", "no peer 'no'"),
}


@pytest.mark.parametrize("target", ["x.railway.internal.", "X.Railway.Internal"])
@pytest.mark.parametrize("name", ["x", "*.x", "a.b.x"])
def test_an_alias_of_itself_is_refused(name: str, target: str) -> None:
    prefix = name.removesuffix("x")
    itself = PutRecord(name, "CNAME", RecordSet(60, (prefix + target,)))
    with pytest.raises(Invalid, match="would be an alias of itself") as refused:
        apply(build("production", 1), [itself], worlds.NOW, worlds.PLATFORM.apex)
    assert (refused.value.field, refused.value.edit) == ("values", 0)
    for fine in ("y.x.railway.internal.", "x.example."):
        apply(
            build("production", 1), [PutRecord("x", "CNAME", RecordSet(60, (fine,)))], worlds.NOW, worlds.PLATFORM.apex
        )


def test_what_has_a_name_that_is_refused_now_goes_on() -> None:
    before = build("production", 1, PutService("web"))
    web = before.services["web"]
    one = Instance(address=instance_address(web.subnet, 1), state=State.READY)
    older = replace(before, services={"123": replace(web, instances={"one": one}, last_number=1)})
    after = apply(older, [PutInstance("123", "one", State.DRAINING), PutService("123", ())], worlds.NOW)
    assert after.services["123"].instances["one"].state is State.DRAINING


@pytest.mark.parametrize("what", REFUSED)
def test_a_refused_edit_leaves_nothing_behind(what: str) -> None:
    edit, error, field, fragment = REFUSED[what]
    before = build("production", 1, *WORLD)
    written = document.encode(before)
    with pytest.raises(ZonesError, match=fragment) as refused:
        apply(before, [SetEnabled(False), edit], NOW)
    assert (type(refused.value), refused.value.field) == (error, field)
    assert document.encode(before) == written


def test_edits_add_up_to_one_revision() -> None:
    before = build("production", 1)
    after = apply(before, WORLD, NOW)
    assert (before.revision, after.revision) == (1, 2)
    assert list(after.services) == ["api", "web"]
    assert str(after.services["api"].subnet) == "fd12:0:1:1::/64"
    assert str(get_instance(after, "api", "a1").address) == "fd12:0:1:1::1"
    assert str(after.services["web"].subnet) == "fd12:0:1:2::/64"


def test_an_edit_made_twice_changes_nothing() -> None:
    before = build("production", 1, *WORLD)
    assert apply(before, WORLD, NOW) is before
    assert apply(before, [], NOW) is before


def test_fields_that_an_edit_does_not_set_stay() -> None:
    after = build(
        "production", 1, *WORLD, PutService("api"), PutInstance("api", "a1", state=State.DRAINING), SetEnabled(False)
    )
    instance = get_instance(after, "api", "a1")
    assert (instance.host, instance.region, instance.state) == ("h1", "eu", State.DRAINING)
    assert get_service(after, "api").ports == (Port("http", 80),)
    assert not after.enabled
    assert get_instance(apply(after, [PutInstance("api", "a1", region=None)], NOW), "api", "a1").region is None


def test_a_new_instance_is_ready_unless_told_otherwise() -> None:
    after = build("production", 1, PutService("api"), PutInstance("api", "a"), PutInstance("api", "b", State.STARTING))
    assert [instance.state for instance in after.services["api"].instances.values()] == [State.READY, State.STARTING]


def test_an_address_is_not_given_twice() -> None:
    environment = build("production", 1)
    addresses = []
    for gone in (DeleteInstance("api", "a1"), DeleteService("api"), None):
        environment = apply(environment, [PutService("api"), PutInstance("api", "a1")], NOW)
        addresses.append(str(get_instance(environment, "api", "a1").address))
        environment = apply(environment, [gone] if gone else [], NOW)
    assert addresses == ["fd12:0:1:1::1", "fd12:0:1:1::2", "fd12:0:1:2::1"]


@pytest.mark.parametrize(
    ("wanted", "given"),
    [
        ("fd12:0:1:1::2", 2),  # the next one
        ("fd12:0:1:1::101", 0x101),  # the last one that may be left out for
        ("fd12:0:1:1::102", 2),  # else one request could use up all of them
        ("fd12:0:1:1::1", 2),  # another instance has had it
        ("fd12:0:1:1::", 2),
        ("fd12:0:1:2::2", 2),  # of another service
        ("fd12:0:1::2", 2),
        ("::", 2),
    ],
)
def test_a_new_instance_gets_the_address_that_is_wanted_if_no_instance_can_have_had_it(wanted: str, given: int) -> None:
    before = build("production", 1, PutService("api"), PutInstance("api", "a1"), DeleteInstance("api", "a1"))
    after = apply(before, [PutInstance("api", "a2", address=Address.parse(wanted))], NOW)
    service = get_service(after, "api")
    assert service.instances["a2"].address == instance_address(service.subnet, given)
    assert service.last_number == given


def test_an_instance_keeps_its_address_whichever_is_wanted() -> None:
    before = build("production", 1, PutService("api"), PutInstance("api", "a1"))
    wanted = PutInstance("api", "a1", State.DRAINING, address=Address.parse("fd12:0:1:1::2"))
    after = apply(before, [wanted], NOW)
    assert str(get_instance(after, "api", "a1").address) == "fd12:0:1:1::1"
    assert get_service(after, "api").last_number == 1


def test_a_peer_keeps_its_address_whatever_else_changes() -> None:
    before = build("production", 1, *WORLD)
    after = apply(before, [PutPeer("laptop", OTHER_KEY), PutPeer("laptop", gateway="h2")], NOW)
    peer = get_peer(after, "laptop")
    assert (peer.public_key, peer.gateway) == (OTHER_KEY, "h2")
    assert peer.address == get_peer(before, "laptop").address == Address.parse("fd12:0:1::100")


def test_two_peers_can_swap_their_keys_in_one_commit() -> None:
    before = build("production", 1, *WORLD, PutPeer("phone", OTHER_KEY, "h1"))
    after = apply(before, [PutPeer("phone", KEY), PutPeer("laptop", OTHER_KEY)], NOW)
    assert (get_peer(after, "phone").public_key, get_peer(after, "laptop").public_key) == (KEY, OTHER_KEY)


def test_the_address_of_a_peer_is_not_given_twice() -> None:
    environment = build("production", 1, *WORLD)
    for number in (0x101, 0x102):
        environment = apply(environment, [DeletePeer("laptop")], NOW)
        assert not environment.peers
        environment = apply(environment, [PutPeer("laptop", KEY, "h1")], NOW)
        assert get_peer(environment, "laptop").address == Address.parse(f"fd12:0:1::{number:x}")


MISSING: list[tuple[Callable[[Environment], object], str]] = [
    (lambda environment: get_service(environment, "no"), "no service 'no'"),
    (lambda environment: get_instance(environment, "no", "a1"), "no service 'no'"),
    (lambda environment: get_instance(environment, "api", "no"), "no instance 'no'"),
    (lambda environment: get_record(environment, "no", "A"), "no A record 'no'"),
    (lambda environment: get_record(environment, "db", "TXT"), "no TXT record 'db'"),
    (lambda environment: get_peer(environment, "no"), "no peer 'no'"),
]


@pytest.mark.parametrize(("get", "fragment"), MISSING)
def test_an_edit_of_what_is_missing_says_what(get: Callable[[Environment], object], fragment: str) -> None:
    with pytest.raises(Missing, match=fragment):
        get(build("production", 1, *WORLD))


def test_an_environment_that_was_not_found_is_missing() -> None:
    environment = build("production", 0x5B1E90C4)
    assert must_exist(environment.id, environment) is environment
    with pytest.raises(Missing, match=r"^there is no environment 'production': create it first$") as missing:
        must_exist(environment.id, None)
    assert missing.value.field == "environment"
    with pytest.raises(Missing, match=r"'production': import it$"):
        must_exist(environment.id, None, advice="import it")


# Renames


def former_names(environment: Environment) -> dict[str, dict[str, int]]:
    return {name: dict(service.former_names) for name, service in environment.services.items()}


RENAMES: list[tuple[str, list[Edit], dict[str, dict[str, int]]]] = [
    ("keeps the old name for a while", [PutService("api", rename="v2", overlap=10)], {"v2": {"api": 10}}),
    ("or not at all", [PutService("api", rename="v2", overlap=0)], {"v2": {}}),
    ("for an hour by default", [PutService("api", rename="v2")], {"v2": {"api": 3600}}),
    (
        "twice keeps both",
        [PutService("api", rename="v2", overlap=10), PutService("v2", rename="v3", overlap=5)],
        {"v3": {"api": 10, "v2": 5}},
    ),
    (
        "and back leaves the other",
        [PutService("api", rename="v2", overlap=10), PutService("v2", rename="api", overlap=5)],
        {"api": {"v2": 5}},
    ),
    (
        "gives the name to a new service",
        [PutService("api", rename="v2", overlap=10), PutService("api")],
        {"v2": {}, "api": {}},
    ),
    (
        "gives the name to another renamed one",
        [PutService("web"), PutService("api", rename="v2", overlap=10), PutService("web", rename="api", overlap=3)],
        {"v2": {}, "api": {"web": 3}},
    ),
    ("to its own name is none", [PutService("api", rename="api")], {"api": {}}),
    ("of a new service to its own name too", [PutService("new", rename="new")], {"api": {}, "new": {}}),
]


@pytest.mark.parametrize(("what", "changes", "expected"), RENAMES)
def test_renames(what: str, changes: list[Edit], expected: dict[str, dict[str, int]]) -> None:
    after = build("production", 1, PutService("api"), PutInstance("api", "a1"), *changes)
    ends = {
        name: {old: (until - NOW) // SECOND for old, until in old.items()} for name, old in former_names(after).items()
    }
    assert ends == expected


def test_a_rename_moves_no_address() -> None:
    before = build("production", 1, PutService("api"), PutInstance("api", "a1"))
    after = apply(before, [PutService("api", rename="v2")], NOW)
    assert after.services["v2"].subnet == before.services["api"].subnet
    assert after.services["v2"].instances == before.services["api"].instances


def test_a_former_name_that_has_ended_is_forgotten_by_the_next_edit() -> None:
    renamed = build("production", 1, PutService("api"), PutService("api", rename="v2", overlap=10))
    in_time, late = NOW + 10 * SECOND - 1, NOW + 10 * SECOND
    assert former_names(apply(renamed, [SetEnabled(False)], in_time)) == {"v2": {"api": late}}
    assert former_names(apply(renamed, [SetEnabled(False)], late)) == {"v2": {}}
    record = PutRecord("api", "TXT", RecordSet(1, ("free again",)))
    with pytest.raises(Conflict):
        apply(renamed, [record], in_time)
    assert apply(renamed, [record], late).records


# Properties


@given(st.lists(st.lists(edits, min_size=1, max_size=3), max_size=25))
def test_any_edits_keep_an_environment_valid(commits: list[list[Edit]]) -> None:
    environment = build("production", 0x5B1E90C4)
    gone: set[Address] = set()
    for step, commit in enumerate(commits):
        now = NOW + step * SECOND
        before = environment
        try:
            environment = apply(before, commit, now)
        except ZonesError:
            continue
        _check_revision(before, environment)
        _check_addresses(before, environment, gone)
        assert document.decode(document.encode(environment)) == environment
        assert worlds.compiled(environment, now).revision == environment.revision
        _check_twice(environment, commit, now)


def _check_revision(before: Environment, after: Environment) -> None:
    if document.encode(before) == document.encode(after):
        assert after is before
    else:
        assert after.revision == before.revision + 1
    assert (after.id, after.network) == (before.id, before.network)


def _check_addresses(before: Environment, after: Environment, gone: set[Address]) -> None:
    old, new = _addresses(before), _addresses(after)
    gone |= old.keys() - new.keys()
    assert not gone & new.keys()
    for address in old.keys() & new.keys():
        assert old[address] == new[address]
    assert len(new) == len(after.peers) + sum(len(service.instances) for service in after.services.values())


def _addresses(environment: Environment) -> dict[Address, tuple[str, str]]:
    """Address → its service's subnet, which a rename does not change, and the instance's id; or the peer's id alone."""
    instances = {
        instance.address: (str(service.subnet), id_)
        for service in environment.services.values()
        for id_, instance in service.instances.items()
    }
    return instances | {peer.address: ("", id_) for id_, peer in environment.peers.items()}


def _check_twice(environment: Environment, commit: list[Edit], now: int) -> None:
    if len(commit) > 1:  # several may undo each other
        return
    try:
        assert apply(environment, commit, now) is environment
    except Missing:
        # What is deleted, or renamed, is not there any more.
        assert isinstance(commit[0], DeleteService | DeleteInstance | DeleteRecord | DeletePeer | PutService)


def test_a_change_checks_no_other_records_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the writers of a large environment wait for each other: a change at 1,000 records took 30 ms, not 2."""
    parsed, parse = list[str](), parse_rdata

    def counted(rtype: RRType, text: str) -> Rdata:
        parsed.append(text)
        return parse(rtype, text)

    monkeypatch.setattr("zones.model.parse_rdata", counted)
    edits = [PutRecord(f"counted-{number}", "TXT", RecordSet(5, (f"value {number}",))) for number in range(50)]
    environment = build("production", 1, *edits)
    parsed.clear()
    after = apply(environment, [PutRecord("another", "TXT", RecordSet(5, ("counted",)))], NOW)
    assert set(after.records) == {*environment.records, "another"}
    assert set(parsed) <= {"counted"}
    with pytest.raises(Invalid, match=r"256\.0\.0\.1"):
        apply(environment, [PutRecord("counted-0", "A", RecordSet(5, ("256.0.0.1",)))], NOW)
