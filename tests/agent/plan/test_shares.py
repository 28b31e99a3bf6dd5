"""The share of a revision that is made of the one before: as if made anew, and no more work than what has changed."""

from __future__ import annotations

from dataclasses import replace

import pytest
from msgspec.structs import force_setattr

from agent.plan import shares as module
from agent.plan.peers import DropAddresses, PeerStep, SetPeer, Tunnel, after, diff
from agent.plan.plan import plan
from agent.plan.shares import Shares
from tests.agent.worlds import PLATFORM, address, environment, host
from tests.revisions import revisions
from tests.worlds import NOW
from zones import edits
from zones.edits import PutInstance
from zones.model import Environment, State

HOSTS = [host(number) for number in range(1, 5)]


@pytest.mark.parametrize("seed", range(6))
def test_the_share_of_the_next_revision_is_the_one_that_is_made_anew(seed: int) -> None:
    kept, newest = Shares(), environment(1, [1, 2, 3])
    kept.of(newest)
    for newer in revisions(newest, seed, 150):
        assert kept.of(newer) == Shares().of(newer)


def large(instances: int, hosts: int) -> Environment:
    return environment(1, [number % hosts for number in range(instances)])


@pytest.mark.parametrize("instances", [10, 10_000])
def test_what_has_not_changed_is_not_looked_at(instances: int, monkeypatch: pytest.MonkeyPatch) -> None:
    kept, first = Shares(), large(instances, 5)
    before = kept.of(first)
    looked_at: list[str] = []
    owner = module._owner

    def counted(*of: object) -> str:
        looked_at.append(found := owner(*of))  # type: ignore[arg-type]
        return found

    monkeypatch.setattr(module, "_owner", counted)
    second = edits.apply(first, [PutInstance("api", "new", State.STARTING, "h3")], NOW)
    third = edits.apply(second, [PutInstance("api", "new", State.READY)], NOW)
    after = kept.of(second)
    assert looked_at == ["instance new.api of e1"]
    assert {host for host in before.by_host if after.by_host[host] is not before.by_host[host]} == {"h3"}
    assert kept.of(third).by_host["h3"] is after.by_host["h3"], "an instance that becomes ready is where it was"
    assert len(looked_at) == 3


def test_an_address_that_comes_to_be_that_of_two_is_left_out_by_the_same_rule() -> None:
    first = environment(1, [1, 2])
    kept = Shares()
    kept.of(first)
    second = edits.apply(first, [PutInstance("api", "new", State.READY, "h3")], NOW)
    force_setattr(second.services["api"].instances["new"], "address", address(1, 1))
    assert kept.of(second) == Shares().of(second)
    assert len(kept.of(second).rejected) == 1
    third = edits.apply(first, [PutInstance("api", "other", State.READY, "h3")], NOW)
    assert kept.of(third) == Shares().of(third)
    assert kept.of(third).rejected == ()


def test_a_union_is_made_again_only_where_one_of_its_sets_is_another() -> None:
    kept = Shares()
    one, other = frozenset({address(1, 1)}), frozenset({address(2, 1)})
    assert kept.union("h1", [one])[0] is one
    both, _ = kept.union("h1", [one, other])
    assert both == one | other
    assert kept.union("h1", [one, other])[0] is both
    assert kept.union("h1", [one, frozenset({address(3, 1)})])[0] == {address(1, 1), address(3, 1)}


@pytest.mark.parametrize("seed", range(4))
def test_the_steps_of_what_has_changed_are_those_of_whole_sets(seed: int) -> None:
    """Peers of two environments, of which one changes; a step that was worked out by the change is the same one."""
    shares, newest, quiet = Shares(), environment(1, [1, 2, 3]), environment(2, [1, 2, 3])
    tunnel, quick = Tunnel(None, 0), 0
    for newer in [newest, *revisions(newest, seed, 100)]:
        environments = {quiet.id: quiet, newer.id: newer}
        wanted = plan(environments, {one.id: one for one in HOSTS}, HOSTS[1], PLATFORM, shares=shares).wanted.peers
        plain = {key: replace(peer, change=None) for key, peer in wanted.items()}
        steps = diff(wanted, tunnel)
        assert list(map(_sorted, steps)) == list(map(_sorted, diff(plain, tunnel)))
        quick += sum(peer.change is not None for peer in wanted.values())
        expected = after(tunnel, steps)
        tunnel = after(tunnel, steps, wanted)
        assert tunnel == expected
        assert all(tunnel.peers[key].allowed_ips is peer.allowed_ips for key, peer in wanted.items())
    assert quick > 10


def _sorted(step: PeerStep) -> PeerStep:
    match step:
        case SetPeer():
            return replace(step, add=tuple(sorted(step.add)))
        case DropAddresses():
            return DropAddresses(tuple(sorted(step.addresses)))
    return step
