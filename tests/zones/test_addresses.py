"""The address plan."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv6Address, IPv6Network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zones.addresses import (
    FIRST_PEER_NUMBER,
    LAST_SUBNET,
    Address,
    Platform,
    contains,
    instance_address,
    is_peer_address,
    next_peer_number,
    next_subnet_number,
    parse_network,
    peer_address,
    read_network,
    resolver_address,
    service_subnet,
    subnet_number,
)
from zones.errors import Conflict, Invalid
from zones.names import Name

NETWORK = IPv6Network("fd12:5b1e:90c4::/48")


@given(st.integers(0, 2**128 - 1))
def test_an_address_reads_as_it_writes(number: int) -> None:
    address = Address(IPv6Address(number).packed)
    assert Address.parse(str(address)) == address
    assert int(address) == number
    assert repr(address) == f"Address({str(address)!r})"


@pytest.mark.parametrize(
    "text", ["", "::g", "1.2.3.4", "fd12::1/128", "fe80::1%eth0", ":::", "fd12::1\0", "\udcff", " ::1"]
)
def test_a_text_that_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(Invalid, match="is not an IPv6 address"):
        Address.parse(text)


def test_the_platform_has_defaults() -> None:
    platform = Platform()
    assert (str(platform.prefix), str(platform.apex)) == ("fd12::/16", "railway.internal.")
    assert str(platform.resolver) == "fd12::10"


PLATFORMS = [
    # prefix, apex, field, fragment
    ("fd12::/17", "railway.internal", "prefix", "not a /16"),
    ("fd12::/16", "internal", "zone", "at least two labels"),
    ("fd12::/16", ".", "zone", "at least two labels"),
    ("fd12::/16", "x" * 63 + ".internal", "zone", "use at most 64"),
]


@pytest.mark.parametrize(("prefix", "apex", "field", "fragment"), PLATFORMS)
def test_a_wrong_platform_is_refused(prefix: str, apex: str, field: str, fragment: str) -> None:
    with pytest.raises(Invalid, match=fragment) as refused:
        Platform(IPv6Network(prefix), Name.parse(apex))
    assert refused.value.field == field


def test_another_prefix_moves_all_addresses() -> None:
    platform = Platform(IPv6Network("fdab::/16"), Name.parse("mesh.example"))
    assert str(platform.resolver) == "fdab::10"
    assert str(platform.environment_network(1)) == "fdab:0:1::/48"


def test_an_environment_takes_32_bits_but_not_zero() -> None:
    platform = Platform()
    assert platform.environment_network(0x5B1E90C4) == NETWORK
    assert str(platform.environment_network(0xFFFF_FFFF)) == "fd12:ffff:ffff::/48"
    for bits in (0, -1, 1 << 32):
        with pytest.raises(Invalid, match="32 random bits other than zero"):
            platform.environment_network(bits)


@given(st.integers(1, LAST_SUBNET), st.integers(1, 2**64 - 1))
def test_addresses_lie_where_the_plan_puts_them(number: int, host: int) -> None:
    subnet = service_subnet(NETWORK, number)
    address = instance_address(subnet, host)
    assert subnet.subnet_of(NETWORK)
    assert subnet_number(subnet) == number
    assert contains(subnet, address)
    assert contains(NETWORK, address)
    assert address != resolver_address(NETWORK)
    assert contains(NETWORK, address) == (IPv6Address(bytes(address)) in NETWORK)


def test_the_plan_by_example() -> None:
    assert str(resolver_address(NETWORK)) == "fd12:5b1e:90c4::10"
    assert str(service_subnet(NETWORK, 1)) == "fd12:5b1e:90c4:1::/64"
    assert str(instance_address(service_subnet(NETWORK, 1), 1)) == "fd12:5b1e:90c4:1::1"
    assert str(peer_address(NETWORK, FIRST_PEER_NUMBER)) == "fd12:5b1e:90c4::100"


def test_peers_are_numbered_upwards() -> None:
    assert [next_peer_number(last) for last in (0, 0xFF, 0x100, 0x101)] == [0x100, 0x100, 0x101, 0x102]


PEER_ADDRESSES = {
    "fd12:5b1e:90c4::100": True,
    "fd12:5b1e:90c4::ffff:ffff:ffff:ffff": True,
    "fd12:5b1e:90c4:0:ffff:ffff:ffff:ffff": True,
    "fd12:5b1e:90c4::ff": False,
    "fd12:5b1e:90c4::10": False,
    "fd12:5b1e:90c4::": False,
    "fd12:5b1e:90c4:1::": False,
    "fd12:5b1e:90c4:1::100": False,
    "fd12:5b1e:90c5::100": False,
    "fd12:5b1e:90c3::100": False,
    "::100": False,
}


@pytest.mark.parametrize(("text", "expected"), PEER_ADDRESSES.items())
def test_which_addresses_peers_have(text: str, expected: bool) -> None:
    assert is_peer_address(NETWORK, Address.parse(text)) is expected


def test_an_address_outside_a_network_is_not_in_it() -> None:
    for text in ("fd12:5b1e:90c5::", "fd12:5b1e:90c3:ffff:ffff:ffff:ffff:ffff", "::", "ffff::"):
        assert not contains(NETWORK, Address.parse(text))


SUBNETS = [
    # last, taken, next
    (0, set(), 1),
    (1, set(), 2),
    (1, {2, 3}, 4),
    (LAST_SUBNET, set(), 1),
    (LAST_SUBNET - 1, {LAST_SUBNET, 1}, 2),
    (5, set(range(1, LAST_SUBNET + 1)) - {5}, 5),  # its own last one again, when no other is left
]


@pytest.mark.parametrize(("last", "taken", "following"), SUBNETS)
def test_the_next_subnet(last: int, taken: set[int], following: int) -> None:
    assert next_subnet_number(last, taken) == following


def test_a_full_environment_says_so() -> None:
    with pytest.raises(Conflict, match="65535 services"):
        next_subnet_number(7, range(1, LAST_SUBNET + 1))


NETWORKS = [
    ("fd12:1::/48", 48, ""),
    ("fd12:1::/64", 48, "is a /64, not a /48"),
    ("fd12:1::1/48", 48, "host bits"),
    ("10.0.0.0/8", 48, "is not an IPv6 network"),
    ("", 48, "is not an IPv6 network"),
    ("fd12:1::", 48, "is a /128, not a /48"),
]


@pytest.mark.parametrize(("text", "bits", "fragment"), NETWORKS)
def test_a_network_is_read(text: str, bits: int, fragment: str) -> None:
    if not fragment:
        assert parse_network(text, bits) == IPv6Network(text)
        return
    with pytest.raises(Invalid, match=fragment):
        parse_network(text, bits)


ANY_VALUES: list[object] = [
    # as documents have them, in other forms, and none at all
    *("fd12:1:2::/48", "fd12:1:2:3::/64", "fd12::/16", "FD12:1:2::/48", "fd12:1:2::/048", "fd12:1:2::", "::1"),
    *("fd12:1:2::1/48", "fd12:1:2::/+48", "fd12:1:2:: /48", "fd12:1:2::/48/48", "/48", "", "x", "1.2.3.0/48"),
    *("fe80::%1/64", "fd12:1:2::\0/48", "\udcff/48", "fd12:1:2::/٤٨", "::1.2.3.04/48", "00fd12::/48", 5, None, 1.5),
]


def network_or_error(read: Callable[[Any], IPv6Network], value: object) -> IPv6Network | str:
    try:
        return read(value)
    except ValueError as error:
        return str(error)


@pytest.mark.parametrize("value", ANY_VALUES)
def test_a_network_is_read_as_the_library_reads_it(value: object) -> None:
    assert network_or_error(read_network, value) == network_or_error(IPv6Network, value)


@given(st.from_regex(r"\A[0-9a-f:]{0,12}(::)?/(48|64|[0-9]{1,3})\Z"))
def test_any_text_of_a_network_is_read_as_the_library_reads_it(text: str) -> None:
    assert network_or_error(read_network, text) == network_or_error(IPv6Network, text)
