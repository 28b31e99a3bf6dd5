"""The endpoint that a host finds out, in a network namespace with real addresses and routes."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from agent.endpoint import find_endpoint
from agent.keys import PrivateKey
from support.endpoints import Endpoint
from tests.namespaces import Namespace
from zones.hosts import Host

KEY = PrivateKey.generate().public

LINKS = (
    "link set lo up",
    "link add left type veth peer name left-end",
    "link add right type veth peer name right-end",
    "link set left-end up",
    "link set right-end up",
    "address add 192.0.2.1/24 dev left",
    "address add 2001:db8:1::1/64 dev left nodad",
    "address add 198.18.0.1/24 dev right",
    "link set left up",
    "link set right up",
)


def hosts(*endpoints: str, behind_nat: bool = False) -> list[Host]:
    return [Host(f"h{number}", endpoint, KEY, behind_nat=behind_nat) for number, endpoint in enumerate(endpoints)]


CASES: dict[str, tuple[Sequence[Host], str, str]] = {
    # others, the endpoint so far, the one that is found
    "nobody is known, and there is no default route": ((), "", ""),
    "the others are on one link": (hosts("192.0.2.7:51820"), "", "192.0.2.1:51821"),
    "the others have IPv6": (hosts("[2001:db8:1::7]:51820"), "", "[2001:db8:1::1]:51821"),
    "most are on one link": (
        hosts("192.0.2.7:51820", "198.18.0.7:51820", "198.18.0.8:51820"), "", "198.18.0.1:51821"
    ),
    "what it was is as good as most": (
        hosts("192.0.2.7:51820", "198.18.0.7:51820", "198.18.0.8:51820"), "192.0.2.1:51821", "192.0.2.1:51821"
    ),
    "what it was is no address any more": (
        hosts("192.0.2.7:51820", "[2001:db8:1::7]:51820", "[2001:db8:1::8]:51820"), "192.0.2.9:51821", "192.0.2.1:51821"
    ),
    "nobody is known any more": ((), "192.0.2.1:51820", "192.0.2.1:51821"),
    "nobody is known any more, and what it was is no address any more": ((), "192.0.2.9:51820", ""),
    "one that cannot be reached does not count": (
        hosts("203.0.113.1:51820", "203.0.113.2:51820", "192.0.2.7:51820"), "", "192.0.2.1:51821"
    ),
    "one that would be this host does not count": (
        hosts("192.0.2.1:51820", "198.18.0.7:51820"), "", "198.18.0.1:51821"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_an_endpoint_is_found(space: Namespace, case: str) -> None:
    others, current, expected = CASES[case]
    space.ip(LINKS)
    assert space.call(lambda: find_endpoint(51821, others, current)) == expected


def test_with_nobody_known_it_is_where_the_default_route_leads(space: Namespace) -> None:
    space.ip([*LINKS, "route add default via 198.18.0.254"])
    assert space.call(lambda: find_endpoint(51820, ())) == "198.18.0.1:51820"


def test_what_it_was_is_left_for_the_control_plane_only_where_it_is_no_address_any_more(space: Namespace) -> None:
    """A host with two families reaches the control plane by one of them, and hosts that come and go by the other."""
    space.ip(LINKS)
    planes = [Endpoint("192.0.2.253", 8443)]
    for current, expected in (("[2001:db8:1::1]:51820", "[2001:db8:1::1]:51820"), ("", "192.0.2.1:51820")):
        found = space.call(lambda current=current: find_endpoint(51820, (), current, planes))  # type: ignore[misc]
        assert found == expected


def test_those_behind_nat_count_only_where_there_are_no_others(space: Namespace) -> None:
    space.ip(LINKS)
    behind = hosts("192.0.2.7:51820", "192.0.2.8:51820", behind_nat=True)
    assert space.call(lambda: find_endpoint(51820, behind)) == "192.0.2.1:51820"
    assert space.call(lambda: find_endpoint(51820, [*behind, *hosts("198.18.0.7:51820")])) == "198.18.0.1:51820"
