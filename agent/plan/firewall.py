"""The firewall's sets as this host has them, the members that are wanted, and the changes between them.

    elements(wanted)                     ->  the members that each set should have
    diff(wanted elements, actual ones)   ->  one change for each set that differs
    after(ruleset, wanted elements)      ->  the ruleset once those changes have been made

The rules themselves never change while the agent runs (docs/decisions/0011): they stand in `agent.system.nftables`,
and here they are only carried along.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from agent.plan.wanted import Wanted

NETWORKS, RESOLVERS, PINS = "networks", "resolvers", "pins"
LINK = "link"
"""In the counts of dropped packets, which else go by chains: what the links' own filters have dropped."""

Element = tuple[str, str]
"""A member of a set: two networks' first addresses, a prefix and an address, or a link's name and an address."""


@dataclass(frozen=True, slots=True)
class Ruleset:
    """The agent's nftables table as it was read."""

    elements: Mapping[str, frozenset[Element]]
    """The members of each set, by the set's name."""
    rules: str
    """The chains and rules as one text, without handles and counters, so that two readings can be compared."""
    drops: Mapping[str, int]
    """How many packets each chain has dropped, and the filters of the links (`LINK`)."""


@dataclass(frozen=True, slots=True)
class SetChange:
    """The elements to remove from and to add to one set of the table."""

    name: str
    """The set's name: `NETWORKS`, `RESOLVERS` or `PINS`."""
    remove: tuple[Element, ...]
    """The elements that the set has and should not have."""
    add: tuple[Element, ...]
    """The elements that the set lacks."""


def elements(wanted: Wanted) -> dict[str, frozenset[Element]]:
    """The members that each set should have, by the set's name."""
    return {
        NETWORKS: frozenset((str(one.network_address), str(one.network_address)) for one in wanted.networks),
        RESOLVERS: frozenset((str(network), str(address)) for network, address in wanted.resolvers),
        PINS: frozenset((link, str(address)) for link, address in wanted.workloads.items()),
    }


def diff(wanted: Mapping[str, frozenset[Element]], actual: Mapping[str, frozenset[Element]]) -> list[SetChange]:
    """The changes that turn the sets ``actual`` into ``wanted``; none for a set that is right already."""
    changes = []
    for name, members in wanted.items():
        existing = actual.get(name, frozenset())
        if members != existing:
            changes.append(SetChange(name, tuple(sorted(existing - members)), tuple(sorted(members - existing))))
    return changes


def after(ruleset: Ruleset, wanted: Mapping[str, frozenset[Element]]) -> Ruleset:
    """``ruleset`` once its sets have been changed to ``wanted``."""
    return replace(ruleset, elements=wanted)
