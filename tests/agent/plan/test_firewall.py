"""The members of the firewall's sets, and the changes between two states of them."""

from __future__ import annotations

from ipaddress import IPv6Network

from hypothesis import given
from hypothesis import strategies as st

from agent.plan.firewall import NETWORKS, PINS, RESOLVERS, Element, Ruleset, SetChange, after, diff, elements
from agent.plan.wanted import Wanted
from tests.agent.worlds import PLATFORM, address

members = st.frozensets(st.tuples(st.sampled_from("abcd"), st.sampled_from("xyz")))
states = st.fixed_dictionaries({NETWORKS: members, RESOLVERS: members, PINS: members})


def test_the_sets_say_who_may_reach_whom() -> None:
    network: IPv6Network = PLATFORM.environment_network(1)
    wanted = Wanted(
        networks=frozenset({network}),
        resolvers=frozenset({(network, PLATFORM.resolver)}),
        workloads={"rail1": address(1, 1)},
    )
    assert elements(wanted) == {
        NETWORKS: {(str(network.network_address), str(network.network_address))},
        RESOLVERS: {(str(network), "fd12::10")},
        PINS: {("rail1", str(address(1, 1)))},
    }


@given(states, states)
def test_the_changes_lead_from_any_state_to_any_other(
    actual: dict[str, frozenset[Element]], wanted: dict[str, frozenset[Element]]
) -> None:
    reached = dict(actual)
    for change in diff(wanted, actual):
        assert set(change.remove) <= reached[change.name]
        reached[change.name] = reached[change.name] - set(change.remove) | set(change.add)
    assert reached == wanted
    assert diff(wanted, reached) == []


def test_a_set_that_is_missing_gets_all_its_members_and_one_that_is_right_none() -> None:
    wanted = {NETWORKS: frozenset({("a", "a")}), PINS: frozenset({("b", "x")})}
    assert diff(wanted, {NETWORKS: frozenset({("a", "a")})}) == [SetChange(PINS, (), (("b", "x"),))]


def test_after_the_changes_the_rules_are_as_they_were() -> None:
    before = Ruleset({PINS: frozenset()}, "the rules", {"source": 3})
    assert after(before, {PINS: frozenset({("b", "x")})}) == Ruleset(
        {PINS: frozenset({("b", "x")})}, "the rules", {"source": 3}
    )
