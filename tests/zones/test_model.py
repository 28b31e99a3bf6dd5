"""The model: which values are refused, and with which message."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv6Network
from typing import Any

import pytest
from msgspec.structs import replace

from tests import worlds
from zones.addresses import Address, Platform
from zones.errors import Conflict, Invalid, ZonesError
from zones.keys import PublicKey
from zones.model import Environment, Instance, Peer, Port, RecordSet, Service, State, check_record_name
from zones.names import EnvironmentId, Name
from zones.zone import compile_zone

NETWORK = IPv6Network("fd12:1:2::/48")
SUBNET = IPv6Network("fd12:1:2:1::/64")
OTHER_SUBNET = IPv6Network("fd12:1:2:2::/64")


def environment(**fields: Any) -> Environment:
    defaults = {"id": EnvironmentId("production"), "network": NETWORK, "revision": 1}
    return Environment(**{**defaults, **fields})


def service(subnet: IPv6Network = SUBNET, **fields: Any) -> Service:
    return Service(subnet=subnet, **fields)


def instance(address: str = "fd12:1:2:1::1", **fields: Any) -> Instance:
    return Instance(address=Address.parse(address), state=State.READY, **fields)


def record(rtype: str, *values: str, name: str = "db", ttl: int = 60, **fields: Any) -> Environment:
    return environment(records={name: {rtype: RecordSet(ttl, values)}}, **fields)


def peer(address: str = "fd12:1:2::100", number: int = 1, gateway: str = "h1") -> Peer:
    return Peer(worlds.public_key(number), Address.parse(address), gateway)


GOOD: dict[str, Callable[[], object]] = {
    "a bare environment": environment,
    "a service without instances": lambda: environment(services={"api": service()}),
    "one port on two protocols": lambda: service(ports=(Port("dns", 53, "udp"), Port("dns", 53, "tcp"))),
    "one number under two names": lambda: service(ports=(Port("a", 80), Port("b", 80))),
    "a former name": lambda: environment(services={"api": service(former_names={"old": 1})}),
    "the smallest and largest port": lambda: (Port("a", 1), Port("b", 65535)),
    "a day's TTL": lambda: RecordSet(86_400, ("x",)),
    "256 values": lambda: RecordSet(1, tuple(map(str, range(256)))),
    "an address of its own network": lambda: record("AAAA", "fd12:1:2:9::9"),
    "an address outside the platform": lambda: record("AAAA", "2001:db8::1", "fd13::1"),
    "a wildcard of all": lambda: record("A", "192.0.2.1", name="*"),
    "A and TXT at one name": lambda: environment(
        records={"db": {"A": RecordSet(1, ("192.0.2.1",)), "TXT": RecordSet(2, ("x",))}}
    ),
    "two peers of one gateway": lambda: environment(peers={"a": peer(), "b": peer("fd12:1:2::101", 2)}),
    "a peer of a service's name": lambda: environment(peers={"ns": peer()}),
    "the last peer of all": lambda: environment(peers={"a": peer("fd12:1:2:0:ffff:ffff:ffff:ffff")}),
}

BAD: dict[str, tuple[Callable[[], object], type[ZonesError], str, str]] = {
    # what: (make, error, field, fragment of the message)
    "environment id": (lambda: environment(id="Prod"), Invalid, "environment", "not an environment id"),
    "schema of another release": (lambda: environment(schema=2), Invalid, "schema", "this release reads 1"),
    "network too small": (lambda: environment(network=SUBNET), Invalid, "network", "not a /48"),
    "revision zero": (lambda: environment(revision=0), Invalid, "revision", "is not from 1"),
    "revision beyond JSON": (lambda: environment(revision=10**30), Invalid, "revision", "is not from 1"),
    "service name": (lambda: environment(services={"_x": service()}), Invalid, "name", "not a service name"),
    "reserved service": (lambda: environment(services={"ns": service()}), Invalid, "name", "reserved"),
    "subnet elsewhere": (
        lambda: environment(services={"api": service(IPv6Network("fd12:1:3:1::/64"))}),
        Invalid,
        "subnet",
        "outside the environment's",
    ),
    "the environment's own subnet": (
        lambda: environment(services={"api": service(IPv6Network("fd12:1:2:0::/64"))}),
        Invalid,
        "subnet",
        "the environment's own",
    ),
    "one subnet for two": (
        lambda: environment(services={"a": service(), "b": service()}),
        Conflict,
        "subnet",
        "a and b have one subnet",
    ),
    "subnet of another size": (lambda: service(NETWORK), Invalid, "subnet", "not a /64"),
    "a former name that is in use": (
        lambda: environment(services={"a": service(former_names={"b": 1}), "b": service(OTHER_SUBNET)}),
        Conflict,
        "former_names",
        "belongs to another",
    ),
    "a former name of its own": (
        lambda: environment(services={"a": service(former_names={"a": 1})}),
        Conflict,
        "former_names",
        "'a'",
    ),
    "a former name of two": (
        lambda: environment(
            services={"a": service(former_names={"x": 1}), "b": service(OTHER_SUBNET, former_names={"x": 1})}
        ),
        Conflict,
        "former_names",
        "'x' of b",
    ),
    "a former name that is none": (lambda: service(former_names={"up": 1}), Invalid, "name", "reserved"),
    "instance id": (lambda: service(instances={"all": instance()}), Invalid, "id", "reserved below a service"),
    "instance elsewhere": (
        lambda: service(instances={"i": instance("fd12:1:2:2::1")}),
        Invalid,
        "instances.address",
        "outside the service's subnet",
    ),
    "the highest instance elsewhere": (
        lambda: service(instances={"i": instance(), "j": instance("fd12:1:2:2::1")}),
        Invalid,
        "instances.address",
        "fd12:1:2:2::1 is outside",
    ),
    "one address for two instances": (
        lambda: service(instances={"i": instance(), "j": instance()}),
        Conflict,
        "instances.address",
        "two instances",
    ),
    "host": (lambda: instance(host="H 1"), Invalid, "host", "cannot be a host id"),
    "region": (lambda: instance(region="eu.west"), Invalid, "region", "cannot be a region"),
    "port name": (lambda: Port("80", 80), Invalid, "ports.name", "RFC 6335"),
    "port zero": (lambda: Port("http", 0), Invalid, "ports.number", "from 1 to 65535"),
    "port too high": (lambda: Port("http", 65536), Invalid, "ports.number", "from 1 to 65535"),
    "one port twice": (lambda: service(ports=(Port("a", 1), Port("a", 2))), Invalid, "ports", "name each"),
    "ttl zero": (lambda: RecordSet(0, ("x",)), Invalid, "ttl", "from 1 to 86400"),
    "ttl too long": (lambda: RecordSet(86_401, ("x",)), Invalid, "ttl", "from 1 to 86400"),
    "no value": (lambda: RecordSet(1, ()), Invalid, "values", "1 to 256 values, not 0"),
    "too many values": (lambda: RecordSet(1, tuple(map(str, range(257)))), Invalid, "values", "not 257"),
    "one value twice": (lambda: RecordSet(1, ("x", "x")), Invalid, "values", "RFC 2181"),
    "one address written in two ways": (
        lambda: record("AAAA", "2001:db8::1", "2001:db8:0::1"),
        Invalid,
        "values",
        "RFC 2181",
    ),
    "record data": (lambda: record("A", "nowhere"), Invalid, "values", "not an IPv4 address"),
    "two canonical names": (lambda: record("CNAME", "a.", "b."), Invalid, "values", "one canonical name"),
    "CNAME and other data": (
        lambda: environment(records={"db": {"CNAME": RecordSet(1, ("a.",)), "TXT": RecordSet(1, ("x",))}}),
        Conflict,
        "type",
        "RFC 2181",
    ),
    "an address of another environment": (
        lambda: record("AAAA", "fd12:1:3::1"),
        Invalid,
        "values",
        "nothing here could reach it",
    ),
    "infrastructure's address": (lambda: record("AAAA", "fd12::10"), Invalid, "values", "nothing here could reach it"),
    "a record at a service's name": (
        lambda: record("A", "192.0.2.1", services={"db": service()}),
        Conflict,
        "records.name",
        "belongs to the service 'db'",
    ),
    "a record below a service": (
        lambda: record("A", "192.0.2.1", name="*.x.db", services={"db": service()}),
        Conflict,
        "records.name",
        "belongs to the service 'db'",
    ),
    "peer id": (lambda: environment(peers={"a.b": peer()}), Invalid, "id", "cannot be a peer id"),
    "peer's key": (
        lambda: Peer(PublicKey("x"), Address.parse("fd12:1:2::100"), "h1"),
        Invalid,
        "public_key",
        "not a public key",
    ),
    "peer's gateway": (lambda: peer(gateway="h_1"), Invalid, "gateway", "cannot be a host id"),
    "peer at the resolver's address": (
        lambda: environment(peers={"a": peer("fd12:1:2::10")}),
        Invalid,
        "peers.address",
        "begin at number 0x100 of fd12:1:2::/64",
    ),
    "peer in a service's subnet": (
        lambda: environment(peers={"a": peer("fd12:1:2:1::100")}),
        Invalid,
        "peers.address",
        "fd12:1:2:1::100 is not a peer's address",
    ),
    "peer in another environment": (
        lambda: environment(peers={"a": peer("fd12:1:3::100")}),
        Invalid,
        "peers.address",
        "is not a peer's address",
    ),
    "one address for two peers": (
        lambda: environment(peers={"a": peer(), "b": peer(number=2)}),
        Conflict,
        "peers.address",
        "a and b have one address, fd12:1:2::100",
    ),
    "one key for two peers": (
        lambda: environment(peers={"a": peer(), "b": peer("fd12:1:2::101")}),
        Conflict,
        "public_key",
        "a and b have one public key",
    ),
    "a record at a former name": (
        lambda: record("A", "192.0.2.1", services={"api": service(former_names={"db": 1})}),
        Conflict,
        "records.name",
        "belongs to the service 'db'",
    ),
}


@pytest.mark.parametrize("what", GOOD)
def test_a_valid_value_can_be_made(what: str) -> None:
    assert GOOD[what]()


@pytest.mark.parametrize("what", BAD)
def test_an_invalid_value_is_refused(what: str) -> None:
    make, error, field, fragment = BAD[what]
    with pytest.raises(ZonesError, match=fragment) as refused:
        make()
    assert refused.value.field == field
    assert type(refused.value) is error


def test_an_edited_environment_is_checked_like_a_new_one() -> None:
    with pytest.raises(Invalid, match="is not from 1"):
        replace(environment(), revision=0)


RECORD_NAMES = {
    "db": "",
    "a.b.c": "",
    "*": "",
    "*.apps": "",
    "_sip._tcp": "",
    "_services.db": "",
    "instances": "",
    "ns.db": "",
    "x" * 63: "",
    ".".join(["x" * 63, "x" * 63, "x" * 62]): "",
    "": "not a name below the zone",
    ".": "not a name below the zone",
    "db.": "final dot",
    "a..b": "empty label",
    "DB": "in lower case",
    r"d\098": "write .* as 'db'",
    "a@b": r"write 'a@b' as",
    "a b": r"write 'a b' as",
    ".".join(["x" * 63, "x" * 63, "x" * 63]): "191 characters: use at most 190",
    "x" * 64: "at most 63",
    "a.*": "only as the first label",
    "*.*": "only as the first label",
    "_services": "reserved",
    "x._services": "reserved",
    "ns": "reserved",
    "x.up": "reserved",
    "*.internal": "reserved",
    "railway-internal-x": "reserved",
}


@pytest.mark.parametrize(("name", "fragment"), RECORD_NAMES.items())
def test_record_names(name: str, fragment: str) -> None:
    if not fragment:
        check_record_name(name)
        return
    with pytest.raises(Invalid, match=fragment):
        check_record_name(name)


def test_the_longest_record_name_fits_below_the_longest_zone() -> None:
    platform = Platform(apex=Name.parse("x" * 60 + ".y"))
    longest = ".".join(["x" * 63, "x" * 63, "x" * 62])
    zone = compile_zone(platform, record("TXT", "here", name=longest), worlds.NOW)
    assert zone.find(Name.parse(f"{longest}.{platform.apex}"))


def test_the_worlds_of_other_tests_are_right() -> None:
    assert worlds.production().network != worlds.staging().network
