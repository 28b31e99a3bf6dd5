"""The steps to addresses and routes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.plan.routes import (
    AddAddress,
    CloseWorkload,
    OpenWorkload,
    RemoveAddress,
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
    there, ways, has_prefix = set(actual.addresses), dict(actual.workloads), actual.has_prefix
    for step in steps:
        match step:
            case AddAddress(one):
                there.add(one)
            case RemoveAddress(one):
                there.remove(one)
            case RoutePrefix():
                has_prefix = True
            case OpenWorkload(link, one):
                ways[link] = one
            case CloseWorkload(link, one):
                assert ways.pop(link) == one
    return Routes(actual.is_up, frozenset(there), has_prefix, actual.interfaces, ways)


@given(addresses, workloads, addresses, workloads, st.booleans())
def test_the_steps_lead_from_any_state_to_any_other(
    there: frozenset[Address],
    here: dict[str, Address],
    wanted_there: frozenset[Address],
    wanted_here: dict[str, Address],
    has_prefix: bool,
) -> None:
    actual = Routes(True, there, has_prefix, frozenset(LINKS), here)
    wanted = Wanted(addresses=wanted_there, workloads=wanted_here)
    reached = taken(actual, diff(wanted, actual))
    assert (reached.addresses, reached.workloads, reached.has_prefix) == (wanted_there, wanted_here, True)
    assert diff(wanted, reached) == []
    assert after(actual, diff(wanted, actual)) == reached


def test_a_workload_whose_link_is_gone_is_left_alone() -> None:
    actual = Routes(True, frozenset({PLATFORM.resolver}), True)
    assert diff(Wanted(addresses=frozenset({PLATFORM.resolver}), workloads={"rail1": address(1, 1)}), actual) == []


def test_a_route_of_ours_that_nobody_wants_is_closed() -> None:
    actual = Routes(True, frozenset(), True, frozenset({"rail1"}), {"rail1": address(1, 1)})
    assert diff(Wanted(), actual) == [CloseWorkload("rail1", address(1, 1))]
