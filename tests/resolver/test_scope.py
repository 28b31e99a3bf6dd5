"""Whose query is it? From source, binding and the resolver that was asked, to a place."""

from __future__ import annotations

import socket
from ipaddress import ip_network

import pytest

from resolver import scope as directory_module
from resolver.scope import Directory
from tests import worlds
from zones.names import EnvironmentId

WIDE = EnvironmentId("wide")


@pytest.fixture
def directory() -> Directory:
    bindings = {
        ip_network("10.0.0.0/8"): WIDE,
        ip_network("10.1.0.0/16"): worlds.PRODUCTION,
        ip_network("10.1.2.3/32"): worlds.STAGING,
        ip_network("::1/128"): worlds.STAGING,
        ip_network("2001:db8::/32"): worlds.PRODUCTION,
        ip_network("0.0.0.0/0"): EnvironmentId("missing"),
        ip_network("fd12::/16"): worlds.STAGING,
    }
    directory = Directory(worlds.PLATFORM, bindings)
    for environment in (worlds.production(), worlds.staging(), worlds.build("wide", 7)):
        directory.publish(worlds.compiled(environment))
    directory.is_loaded = True
    return directory


def octets(address: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)


@pytest.mark.parametrize(
    ("source", "environment"),
    [
        ("fd12:5b1e:90c4:1::1", "production"),
        ("fd12:5b1e:90c4::10", "production"),
        ("fd12:5b1e:90c4:ffff:ffff:ffff:ffff:ffff", "production"),
        ("fd12:ab:cd:1::1", "staging"),
        ("fd12:5b1e:90c5::1", "staging"),  # by the binding: no environment has this network
        ("10.9.9.9", "wide"),
        ("10.1.9.9", "production"),
        ("10.1.2.3", "staging"),
        ("::1", "staging"),
        ("2001:db8:1::1", "production"),
        ("2001:db9::1", None),
        ("::", None),
        ("192.0.2.1", None),
        ("0.0.0.1", None),  # not ::1: an address of four octets is no address of sixteen
    ],
)
def test_a_source_belongs_to_the_longest_prefix(source: str, environment: str | None, directory: Directory) -> None:
    for _ in range(2):  # found, then remembered
        zone = directory.place_of(octets(source), worlds.ASKED).serving.zone
        assert (zone.id if zone else None) == environment


@pytest.mark.parametrize(
    ("source", "resolver", "environment"),
    [
        ("198.51.100.1", "fd12:5b1e:90c4::10", None),  # IPv4 is bound to an environment that is missing
        ("2001:db9::1", "fd12:5b1e:90c4::10", "production"),
        ("2001:db9::1", "fd12:9999:9999::10", None),
        ("2001:db9::1", "fd12:5b1e:90c4::11", None),
        ("2001:db9::1", "fd12:5b1e:90c4:1::10", None),
        ("2001:db9::1", "fd12::10", None),
        ("2001:db9::1", "fd13:5b1e:90c4::10", None),
        ("fd12:ab:cd:1::1", "fd12::10", "staging"),
        ("fd12:5b1e:90c4:1::1", "fd12:5b1e:90c4::10", "production"),
        ("fd12:5b1e:90c4:1::1", "fd12:ab:cd::10", None),  # asks another environment's resolver
        ("::1", "fd12:5b1e:90c4::10", None),
    ],
)
def test_the_resolver_that_was_asked_decides_for_strangers_only(
    source: str, resolver: str, environment: str | None, directory: Directory
) -> None:
    zone = directory.place_of(octets(source), octets(resolver)).serving.zone
    assert (zone.id if zone else None) == environment


def test_a_source_follows_its_environment_when_that_comes_and_goes() -> None:
    directory = Directory(worlds.PLATFORM, worlds.BINDINGS)
    source = octets(worlds.PRODUCTION_SOURCE)
    assert "does not exist" in directory.place_of(source, worlds.ASKED).serving.reason
    directory.publish(worlds.compiled(worlds.production()))
    assert directory.place_of(source, worlds.ASKED).serving.zone
    assert directory.place_of(octets("fd12:5b1e:90c4:1::1"), worlds.ASKED).serving.zone
    directory.withdraw(worlds.PRODUCTION)
    assert "does not exist" in directory.place_of(source, worlds.ASKED).serving.reason
    assert directory.place_of(octets("fd12:5b1e:90c4:1::1"), worlds.ASKED).serving.zone is None
    directory.withdraw(worlds.PRODUCTION)
    assert len(directory) == 0


def test_an_environment_made_anew_with_another_network_leaves_the_old_one() -> None:
    directory = Directory(worlds.PLATFORM, worlds.BINDINGS)
    directory.publish(worlds.compiled(worlds.build("production", 1)))
    directory.publish(worlds.compiled(worlds.build("production", 2)))
    assert directory.place_of(octets("fd12:0:1::1"), worlds.ASKED).serving.zone is None
    assert directory.place_of(octets("fd12:0:2::1"), worlds.ASKED).serving.zone
    assert len(directory) == 1


def test_sources_are_remembered_within_bounds(monkeypatch: pytest.MonkeyPatch, directory: Directory) -> None:
    monkeypatch.setattr(directory_module, "REMEMBERED_SOURCES", 10)
    for number in range(100):
        directory.place_of(number.to_bytes(4, "big"), worlds.ASKED)
        assert len(directory._remembered) <= 10


def zone_at(directory: Directory, source: str) -> str | None:
    zone = directory.place_of(octets(source), worlds.ASKED).serving.zone
    return zone.id if zone else None


def test_an_environment_on_its_way_has_a_place_but_no_zone() -> None:
    directory = Directory(worlds.PLATFORM, worlds.BINDINGS)
    coming = worlds.compiled(worlds.build("production", 1))
    assert directory.place_of(octets("fd12:0:1::1"), worlds.ASKED).serving.coming is None
    directory.announce(coming)
    for source in ("fd12:0:1::1", worlds.PRODUCTION_SOURCE):
        serving = directory.place_of(octets(source), worlds.ASKED).serving
        assert (serving.zone, serving.coming) == (None, coming)
        assert "on its way" in serving.reason
    directory.publish(coming)
    serving = directory.place_of(octets("fd12:0:1::1"), worlds.ASKED).serving
    assert (serving.zone, serving.coming, serving.reason) == (coming, None, "")


def test_nobody_is_in_the_network_of_another_by_an_announcement() -> None:
    directory = Directory(worlds.PLATFORM, {})
    heir, moved = worlds.compiled(worlds.build("heir", 1)), worlds.compiled(worlds.build("production", 2))
    directory.publish(worlds.compiled(worlds.build("production", 1)))
    directory.announce(heir)
    directory.announce(moved)
    assert [zone_at(directory, source) for source in ("fd12:0:1::1", "fd12:0:2::1")] == ["production", None]
    directory.publish(heir)
    assert zone_at(directory, "fd12:0:1::1") == "heir"
    directory.withdraw(worlds.PRODUCTION)
    assert zone_at(directory, "fd12:0:1::1") == "heir"
