"""What a worker is sent makes it serve what the process with the zones serves, however late it is sent."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, field
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st
from msgspec.structs import replace

from interlock.workers.steps import Shown, apply_change, pack_change, shown
from resolver.server import Resolver
from tests import worlds
from zones.edits import Edit, PutInstance, PutRecord, PutService, apply
from zones.model import Environment, RecordSet
from zones.names import EnvironmentId
from zones.placement import NONE_AWAY, HostsAway
from zones.zone import Zone, compile_zone

SHOP = EnvironmentId("shop")
NETWORKS = (0x5B1E90C4, 0x11112222)
AWAY = (NONE_AWAY, HostsAway(down=frozenset({"h1"})), HostsAway(unreachable=frozenset({"h2"})))

edits = st.sampled_from(
    [
        PutService("api"),
        PutInstance("api", "a1", host="h1"),
        PutInstance("api", "a2", host="h2"),
        PutService("web"),
        PutRecord("db", "TXT", RecordSet(60, ("x",))),
        PutRecord("db", "TXT", RecordSet(60, ("y",))),
    ]
)
zones = st.tuples(st.lists(edits, max_size=4), st.sampled_from(NETWORKS), st.integers(1, 9), st.sampled_from(AWAY))
events = st.one_of(
    st.tuples(st.sampled_from(["announce", "publish"]), zones),
    st.tuples(st.sampled_from(["publish pending", "withdraw", "tell"]), st.none()),
)


@dataclass
class Pair:
    """The process with the zones, and a worker that is told later."""

    parent: Resolver = field(default_factory=lambda: Resolver(worlds.PLATFORM, [], {}))
    worker: Resolver = field(default_factory=lambda: Resolver(worlds.PLATFORM, [], {}))
    had: Shown | None = None

    def note(self) -> None:
        self.had = self.had or shown(self.parent, SHOP)

    def tell(self) -> None:
        if self.had:
            change = pack_change(SHOP, self.had, shown(self.parent, SHOP))
            apply_change(self.worker, pickle.loads(pickle.dumps(change)))
        self.had = None


def environment(edits: list[Edit], network: int, revision: int) -> Environment:
    """A revision of the environment; services that the edits need are made first."""
    return replace(worlds.build(SHOP, network, PutService("api"), *edits), revision=revision)


def said(zone: Zone | None) -> object:
    return zone and (zone.environment, zone.valid_until, zone.away, sorted(member.name for member in zone.members))


def run(steps: list[tuple[str, Any]]) -> None:
    pair = Pair()
    for name, what in steps:
        pending = shown(pair.parent, SHOP).pending
        if name == "tell":
            pair.tell()
            continue
        pair.note()
        if name == "withdraw":
            pair.parent.withdraw(SHOP)
        elif name == "publish pending":
            if pending:
                pair.parent.publish(pending)
        else:
            changes, network, revision, away = what
            zone = compile_zone(worlds.PLATFORM, environment(changes, network, revision), worlds.NOW, away)
            getattr(pair.parent, name)(zone)
    pair.tell()
    here, there = shown(pair.parent, SHOP), shown(pair.worker, SHOP)
    assert (said(there.zone), said(there.pending)) == (said(here.zone), said(here.pending))
    assert len(pair.worker.scopes) == len(pair.parent.scopes)


@given(st.lists(events, max_size=12))
@example(
    [
        ("announce", ([], NETWORKS[0], 1, NONE_AWAY)), ("tell", None), ("withdraw", None),
        ("announce", ([], NETWORKS[1], 1, NONE_AWAY)),
    ]
)  # fmt: skip
def test_a_worker_that_is_told_serves_what_is_served(steps: list[tuple[str, Any]]) -> None:
    run(steps)


def test_a_change_costs_what_it_changes() -> None:
    large = worlds.build(SHOP, NETWORKS[0], PutService("api"), *(PutInstance("api", f"a{n}") for n in range(2000)))
    after = apply(large, [PutInstance("api", "a2000")], worlds.NOW)
    change = pack_change(SHOP, Shown(worlds.compiled(large)), Shown(worlds.compiled(after)))
    assert change.octets < 1000


def test_a_former_name_that_has_ended_ends_in_the_worker_too() -> None:
    before = worlds.build(SHOP, NETWORKS[0], PutService("api"), PutInstance("api", "a1"))
    renamed = apply(before, [PutService("api", rename="web", overlap=60)], worlds.NOW)
    pair = Pair()
    for now in (worlds.NOW, worlds.NOW + 61_000):
        pair.note()
        pair.parent.publish(compile_zone(worlds.PLATFORM, renamed, now))
        pair.tell()
        here, there = shown(pair.parent, SHOP).zone, shown(pair.worker, SHOP).zone
        assert said(there) == said(here)
    assert there
    assert there.valid_until is None
