"""Which environment a client belongs to: from source, binding and resolver address to a scope."""

from __future__ import annotations

import socket
from ipaddress import ip_network

import pytest

from resolver import scope
from resolver.scope import ScopeTable
from tests import worlds
from zones.names import EnvironmentId

WIDE = EnvironmentId("wide")


@pytest.fixture
def scopes() -> ScopeTable:
    bindings = {
        ip_network("10.0.0.0/8"): WIDE,
        ip_network("10.1.0.0/16"): worlds.PRODUCTION,
        ip_network("10.1.2.3/32"): worlds.STAGING,
        ip_network("::1/128"): worlds.STAGING,
        ip_network("2001:db8::/32"): worlds.PRODUCTION,
        ip_network("0.0.0.0/0"): EnvironmentId("missing"),
        ip_network("fd12::/16"): worlds.STAGING,
    }
    scopes = ScopeTable(worlds.PLATFORM, bindings)
    for environment in (worlds.production(), worlds.staging(), worlds.build("wide", 7)):
        scopes.publish(worlds.compiled(environment))
    scopes.is_loaded = True
    return scopes


def octets(address: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)


@pytest.mark.parametrize(
    ("source", "environment"),
    [
        ("fd12:5b1e:90c4:1::1", "production"),
        ("fd12:5b1e:90c4::10", "staging"),  # by the binding: the address of a resolver is no member's
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
def test_a_source_belongs_to_the_longest_prefix(source: str, environment: str | None, scopes: ScopeTable) -> None:
    for _ in range(2):  # found, then remembered
        zone = scopes.scope_of(octets(source), worlds.ASKED).state.zone
        assert (zone.id if zone else None) == environment


@pytest.mark.parametrize(
    ("source", "resolver", "environment"),
    [
        ("198.51.100.1", "fd12:5b1e:90c4::10", None),  # IPv4 is bound to an environment that is missing
        ("2001:db9::1", "fd12:5b1e:90c4::10", None),  # anybody can send to it
        ("fd12:5b1e:90c4::10", "fd12:5b1e:90c4::10", None),
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
def test_the_address_that_is_asked_never_decides_alone(
    source: str, resolver: str, environment: str | None, scopes: ScopeTable
) -> None:
    zone = scopes.scope_of(octets(source), octets(resolver)).state.zone
    assert (zone.id if zone else None) == environment


def test_a_source_follows_its_environment_when_that_comes_and_goes() -> None:
    scopes = ScopeTable(worlds.PLATFORM, worlds.BINDINGS)
    source = octets(worlds.PRODUCTION_SOURCE)
    assert "does not exist" in scopes.scope_of(source, worlds.ASKED).state.reason
    scopes.publish(worlds.compiled(worlds.production()))
    assert scopes.scope_of(source, worlds.ASKED).state.zone
    assert scopes.scope_of(octets("fd12:5b1e:90c4:1::1"), worlds.ASKED).state.zone
    scopes.withdraw(worlds.PRODUCTION)
    assert "does not exist" in scopes.scope_of(source, worlds.ASKED).state.reason
    assert scopes.scope_of(octets("fd12:5b1e:90c4:1::1"), worlds.ASKED).state.zone is None
    scopes.withdraw(worlds.PRODUCTION)
    assert len(scopes) == 0


def test_an_environment_made_anew_with_another_network_leaves_the_old_one() -> None:
    scopes = ScopeTable(worlds.PLATFORM, worlds.BINDINGS)
    scopes.publish(worlds.compiled(worlds.build("production", 1)))
    scopes.publish(worlds.compiled(worlds.build("production", 2)))
    assert scopes.scope_of(octets("fd12:0:1::1"), worlds.ASKED).state.zone is None
    assert scopes.scope_of(octets("fd12:0:2::1"), worlds.ASKED).state.zone
    assert len(scopes) == 1


def test_sources_are_remembered_within_bounds(monkeypatch: pytest.MonkeyPatch, scopes: ScopeTable) -> None:
    monkeypatch.setattr(scope, "REMEMBERED_SOURCES", 10)
    for number in range(100):
        scopes.scope_of(number.to_bytes(4, "big"), worlds.ASKED)
        assert sum(map(len, scopes._remembered.values())) <= 10


def zone_at(scopes: ScopeTable, source: str) -> str | None:
    zone = scopes.scope_of(octets(source), worlds.ASKED).state.zone
    return zone.id if zone else None


def test_a_pending_environment_has_a_scope_but_no_zone() -> None:
    scopes = ScopeTable(worlds.PLATFORM, worlds.BINDINGS)
    pending = worlds.compiled(worlds.build("production", 1))
    assert scopes.scope_of(octets("fd12:0:1::1"), worlds.ASKED).state.pending is None
    scopes.announce(pending)
    for source in ("fd12:0:1::1", worlds.PRODUCTION_SOURCE):
        state = scopes.scope_of(octets(source), worlds.ASKED).state
        assert (state.zone, state.pending) == (None, pending)
        assert "on its way" in state.reason
    scopes.publish(pending)
    state = scopes.scope_of(octets("fd12:0:1::1"), worlds.ASKED).state
    assert (state.zone, state.pending, state.reason) == (pending, None, "")


def test_an_announcement_takes_no_network_from_another_environment() -> None:
    scopes = ScopeTable(worlds.PLATFORM, {})
    heir, moved = worlds.compiled(worlds.build("heir", 1)), worlds.compiled(worlds.build("production", 2))
    scopes.publish(worlds.compiled(worlds.build("production", 1)))
    scopes.announce(heir)
    scopes.announce(moved)
    assert [zone_at(scopes, source) for source in ("fd12:0:1::1", "fd12:0:2::1")] == ["production", None]
    scopes.publish(heir)
    assert zone_at(scopes, "fd12:0:1::1") == "heir"
    scopes.withdraw(worlds.PRODUCTION)
    assert zone_at(scopes, "fd12:0:1::1") == "heir"
