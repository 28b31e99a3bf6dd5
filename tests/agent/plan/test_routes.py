"""The steps to the addresses and routes that are wanted."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.plan.routes import (
    AddAddress,
    AddWorkload,
    RemoveAddress,
    RemoveWorkload,
    RoutePrefix,
    Routes,
    RouteStep,
    after,
    diff,
)
from agent.plan.wanted import Wanted
from tests.agent.worlds import PLATFORM, address
from zones.addresses import Address

LINKS = ("rail1", "rail2", "rail3")
addresses = st.frozensets(st.integers(1, 4).map(lambda at: address(1, at)))
workloads = st.dictionaries(st.sampled_from(LINKS), st.integers(1, 4).map(lambda at: address(2, at)))


def taken(actual: Routes, steps: list[RouteStep]) -> Routes:
    own, workloads, has_prefix = set(actual.addresses), dict(actual.workloads), actual.has_prefix
    for step in steps:
        match step:
            case AddAddress(one):
                own.add(one)
            case RemoveAddress(one):
                own.remove(one)
            case RoutePrefix():
                has_prefix = True
            case AddWorkload(link, one):
                workloads[link] = one
            case RemoveWorkload(link, one):
                assert workloads.pop(link) == one
    return Routes(actual.is_up, frozenset(own), has_prefix, actual.links, workloads)


@given(addresses, workloads, addresses, workloads, st.booleans())
def test_the_steps_lead_from_any_state_to_any_other(
    own: frozenset[Address],
    routed: dict[str, Address],
    wanted_own: frozenset[Address],
    wanted_routed: dict[str, Address],
    has_prefix: bool,
) -> None:
    actual = Routes(True, own, has_prefix, frozenset(LINKS), routed)
    wanted = Wanted(addresses=wanted_own, workloads=wanted_routed)
    reached = taken(actual, diff(wanted, actual))
    assert (reached.addresses, reached.workloads, reached.has_prefix) == (wanted_own, wanted_routed, True)
    assert diff(wanted, reached) == []
    assert after(actual, diff(wanted, actual)) == reached


def test_a_workload_whose_link_is_gone_is_left_alone() -> None:
    actual = Routes(True, frozenset({PLATFORM.resolver}), True)
    assert diff(Wanted(addresses=frozenset({PLATFORM.resolver}), workloads={"rail1": address(1, 1)}), actual) == []


def test_a_workloads_route_that_is_not_wanted_is_removed() -> None:
    actual = Routes(True, frozenset(), True, frozenset({"rail1"}), {"rail1": address(1, 1)})
    assert diff(Wanted(), actual) == [RemoveWorkload("rail1", address(1, 1))]
