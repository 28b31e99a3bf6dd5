"""From the documents to what a host should have: its peers, its addresses, and what is left out by name."""

from __future__ import annotations

import dataclasses
from ipaddress import IPv6Network

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import force_setattr, replace

from agent.plan.plan import NAT_KEEPALIVE, LocalWorkload, Plan, plan
from agent.plan.shares import Shares
from agent.plan.wanted import Peer
from tests.agent.worlds import PLATFORM, address, environment, host, key
from zones import model
from zones.addresses import Address, resolver_address
from zones.hosts import Host
from zones.model import Environment


def planned(
    environments: list[Environment], hosts: list[Host], me: Host, workloads: list[LocalWorkload] | None = None
) -> Plan:
    by_id = {one.id: one for one in environments}
    return plan(by_id, {one.id: one for one in hosts}, me, PLATFORM, workloads or ())


HOSTS = [host(number) for number in range(1, 5)]
MAC = "02:00:00:00:00:01"


def external(number: int, at: int, gateway: int) -> model.Peer:
    network = PLATFORM.environment_network(number)
    return model.Peer(
        key(100 + at), Address((int(network.network_address) + 0x100 + at).to_bytes(16, "big")), f"h{gateway}"
    )


def test_each_host_of_an_environment_is_a_peer_with_its_instances() -> None:
    wanted = planned([environment(1, [1, 2, 2, 3])], HOSTS, HOSTS[0]).wanted
    assert wanted.peers == {
        key(2): Peer("192.0.2.2:51820", frozenset({address(1, 2), address(1, 3)})),
        key(3): Peer("192.0.2.3:51820", frozenset({address(1, 4)})),
    }


def test_a_peer_carries_the_instances_of_all_environments_that_it_shares_with_us() -> None:
    wanted = planned([environment(1, [1, 2]), environment(2, [1, 2])], HOSTS, HOSTS[0]).wanted
    assert wanted.peers[key(2)].allowed_ips == {address(1, 2), address(2, 2)}
    assert wanted.networks == {PLATFORM.environment_network(1), PLATFORM.environment_network(2)}


def test_each_environment_may_ask_the_resolver_of_this_host() -> None:
    wanted = planned([environment(1, [1])], HOSTS, HOSTS[0]).wanted
    assert wanted.resolvers == {(PLATFORM.environment_network(1), PLATFORM.resolver)}
    assert wanted.addresses == {PLATFORM.resolver}


def test_a_host_with_nothing_to_do_still_has_its_resolver_address() -> None:
    wanted = planned([], HOSTS, HOSTS[0]).wanted
    assert wanted.addresses == {PLATFORM.resolver}
    assert not wanted.peers
    assert not wanted.networks


def test_an_environment_that_is_switched_off_has_no_peers_and_no_network() -> None:
    off = replace(environment(1, [1, 2]), enabled=False)
    wanted = planned([off], HOSTS, HOSTS[0]).wanted
    assert (wanted.peers, wanted.networks) == ({}, frozenset())


def test_a_host_that_has_not_registered_is_no_peer() -> None:
    assert planned([environment(1, [1, 9])], HOSTS, HOSTS[0]).wanted.peers == {}


def test_during_a_rotation_a_host_is_two_peers_and_its_addresses_stay_with_the_key_in_use() -> None:
    rotating = replace(HOSTS[1], next_public_key=key(22))
    wanted = planned([environment(1, [1, 2])], [HOSTS[0], rotating], HOSTS[0]).wanted
    assert wanted.peers[key(2)].allowed_ips == {address(1, 2)}
    assert wanted.peers[key(22)] == Peer("192.0.2.2:51820", frozenset())


def test_a_host_behind_nat_keeps_its_mapping_alive_and_only_to_keys_that_are_in_use() -> None:
    me, other = host(1, behind_nat=True), host(2, next_public_key=key(22))
    wanted = planned([environment(1, [1, 2])], [me, other], me).wanted
    assert {each: peer.keepalive for each, peer in wanted.peers.items()} == {key(2): NAT_KEEPALIVE, key(22): 0}


# External peers


def test_the_gateway_has_the_external_peer_and_the_environments_own_resolver_address() -> None:
    laptop = external(1, 1, gateway=1)
    wanted = planned([environment(1, [1, 2], peers={"laptop": laptop})], HOSTS, HOSTS[0]).wanted
    own = resolver_address(PLATFORM.environment_network(1))
    assert wanted.peers[laptop.public_key] == Peer(None, frozenset({laptop.address}))
    assert own in wanted.addresses
    assert (PLATFORM.environment_network(1), own) in wanted.resolvers


def test_other_hosts_reach_the_external_peer_by_its_gateway() -> None:
    laptop = external(1, 1, gateway=1)
    wanted = planned([environment(1, [1, 2], peers={"laptop": laptop})], HOSTS, HOSTS[1]).wanted
    assert wanted.peers[key(1)].allowed_ips == {address(1, 1), laptop.address}
    assert laptop.public_key not in wanted.peers


def test_a_laptop_with_one_key_may_be_in_several_environments() -> None:
    first, second = external(1, 1, gateway=1), external(2, 1, gateway=1)
    both = [environment(1, [1], peers={"laptop": first}), environment(2, [1], peers={"laptop": second})]
    wanted = planned(both, HOSTS, HOSTS[0]).wanted
    assert wanted.peers[key(101)].allowed_ips == {first.address, second.address}


# What is left out


def test_of_two_hosts_with_one_key_one_is_left_out_and_named() -> None:
    twin = replace(HOSTS[2], public_key=key(2))
    made = planned([environment(1, [1, 2, 3])], [HOSTS[0], HOSTS[1], twin], HOSTS[0])
    assert made.wanted.peers[key(2)].endpoint == HOSTS[1].endpoint
    assert [str(one) for one in made.rejected] == ["host h3: its public key is that of another host"]


def test_a_peer_with_our_own_key_is_left_out() -> None:
    twin = replace(HOSTS[1], public_key=key(1))
    made = planned([environment(1, [1, 2])], [HOSTS[0], twin], HOSTS[0])
    assert made.wanted.peers == {}
    assert [str(one) for one in made.rejected] == ["host h2: its public key is that of this host"]


def test_an_external_peer_with_a_hosts_key_is_left_out() -> None:
    thief = replace(external(1, 1, gateway=1), public_key=key(2))
    made = planned([environment(1, [1, 2], peers={"thief": thief})], HOSTS, HOSTS[0])
    assert made.wanted.peers[key(2)].endpoint == HOSTS[1].endpoint
    assert [one.reason for one in made.rejected] == ["its public key is that of a host"]


@pytest.mark.parametrize(
    ("claimed", "reason"),
    [(address(2, 1), "is outside"), (address(1, 1), "is that of instance a1.api of e1")],
    ids=["of another environment", "of another instance"],
)
def test_an_address_that_is_not_its_own_is_left_out_and_the_others_stay(claimed: Address, reason: str) -> None:
    made_up = environment(1, [1, 2, 3])
    # The model refuses to be made like this; here is a world in which it did not.
    force_setattr(made_up.services["api"].instances["a2"], "address", claimed)
    made = planned([made_up, environment(2, [4])], HOSTS, HOSTS[0])
    assert made.wanted.peers.keys() == {key(3), key(4)}
    (rejection,) = made.rejected
    assert rejection.what == "instance a2.api of e1"
    assert reason in rejection.reason


# Workloads of this host


def test_a_workload_is_routed_while_its_instance_is_in_the_document() -> None:
    mine = LocalWorkload("rail1", MAC, environment(1, [1]).id, address(1, 1), "e1.api.a1")
    assert planned([environment(1, [1])], HOSTS, HOSTS[0], [mine]).wanted.workloads == {"rail1": address(1, 1)}
    assert planned([environment(1, [])], HOSTS, HOSTS[0], [mine]).wanted.workloads == {}
    assert planned([environment(1, [2])], HOSTS, HOSTS[0], [mine]).wanted.workloads == {}


def test_a_fresh_workload_is_routed_before_a_document_with_it_is_published() -> None:
    fresh = LocalWorkload("rail1", MAC, environment(1, [1]).id, address(1, 1), "e1.api.a1", is_fresh=True)
    assert planned([], HOSTS, HOSTS[0], [fresh]).wanted.workloads == {"rail1": address(1, 1)}


def test_a_fresh_workload_is_not_routed_where_a_document_has_given_its_address_to_another_host() -> None:
    """Both hosts expected the next address for their workloads, and the other one was first."""
    fresh = LocalWorkload("rail1", MAC, environment(1, [1]).id, address(1, 2), "e1.api.a9", is_fresh=True)
    made = planned([environment(1, [1])], HOSTS, HOSTS[0], [fresh])
    assert made.wanted.workloads == {"rail1": address(1, 2)}
    made = planned([environment(1, [1, 2])], HOSTS, HOSTS[0], [fresh])
    assert made.wanted.workloads == {}
    assert address(1, 2) in made.wanted.peers[HOSTS[1].public_key].allowed_ips


def test_a_fresh_workload_is_not_routed_where_a_document_has_its_address_without_a_host() -> None:
    """Somebody put an instance by the API meanwhile, of whose path this host knows nothing."""
    without_host = environment(1, [1, 2])
    force_setattr(without_host.services["api"].instances["a2"], "host", None)
    fresh = LocalWorkload("rail1", MAC, without_host.id, address(1, 2), "e1.api.a9", is_fresh=True)
    assert planned([without_host], HOSTS, HOSTS[0], [fresh]).wanted.workloads == {}
    # This is how that instance itself is attached here.
    fresh = dataclasses.replace(fresh, owner="e1.api.a2")
    assert planned([without_host], HOSTS, HOSTS[0], [fresh]).wanted.workloads == {"rail1": address(1, 2)}


@pytest.mark.parametrize("is_fresh", [True, False])
def test_of_two_workloads_with_one_address_that_one_is_routed_which_the_document_names(is_fresh: bool) -> None:
    """Many are attached at once, and the one that was connected first did not come first."""
    late = LocalWorkload("rail1", MAC, environment(1, [1]).id, address(1, 2), "e1.api.a2", is_fresh=is_fresh)
    expected = dataclasses.replace(late, link="rail2", owner="e1.api.a3", is_fresh=True)
    for both in ([late, expected], [expected, late]):
        made = planned([environment(1, [1, 1])], HOSTS, HOSTS[0], both)
        assert made.wanted.workloads == {"rail1": address(1, 2)}


def test_of_two_fresh_workloads_with_one_address_none_is_routed_before_a_document_names_one() -> None:
    one = LocalWorkload("rail1", MAC, environment(1, [1]).id, address(1, 2), "e1.api.a2", is_fresh=True)
    other = dataclasses.replace(one, link="rail2", owner="e1.api.a3")
    assert planned([environment(1, [1])], HOSTS, HOSTS[0], [one, other]).wanted.workloads == {}


def test_a_workload_is_routed_whatever_its_service_is_called_now() -> None:
    renamed = LocalWorkload("rail1", MAC, environment(1, [1]).id, address(1, 1), "e1.web.a1")
    assert planned([environment(1, [1])], HOSTS, HOSTS[0], [renamed]).wanted.workloads == {"rail1": address(1, 1)}


# In general

placements = st.dictionaries(st.integers(1, 6), st.lists(st.integers(1, 4), max_size=6), max_size=5)


@given(placements, st.integers(1, 4))
def test_no_address_has_two_peers_and_none_leads_out_of_its_environment(where: dict[int, list[int]], me: int) -> None:
    environments = [environment(number, hosts) for number, hosts in where.items() if me in hosts]
    made = planned(environments, HOSTS, HOSTS[me - 1])
    given_out = [one for peer in made.wanted.peers.values() for one in peer.allowed_ips]
    assert len(given_out) == len(set(given_out))
    for one in given_out:
        assert any(IPv6Network((bytes(one), 48), strict=False) == network for network in made.wanted.networks)
    assert made.rejected == ()


@given(st.lists(placements, min_size=1, max_size=4))
def test_a_plan_from_kept_shares_is_the_plan_that_is_computed_anew(
    history: list[dict[int, list[int]]],
) -> None:
    shares, hosts = Shares(), {one.id: one for one in HOSTS}
    for revision, where in enumerate(history, start=1):
        environments = {one.id: one for one in (environment(n, on, revision) for n, on in where.items())}
        shares.retain(environments)
        kept = plan(environments, hosts, HOSTS[0], PLATFORM, (), shares)
        assert kept == plan(environments, hosts, HOSTS[0], PLATFORM)
