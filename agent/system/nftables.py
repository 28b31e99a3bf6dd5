"""Who may pass: one nftables table, default drop for all that comes from or goes to us, whatever else the host filters.

The rules never change while the agent runs; what changes are the members of three sets. So a commit adds or removes
set elements in one transaction, and at no moment is there less of a wall than before.

    networks    who may speak with whom: each environment with itself, as pairs of prefixes
    resolvers   which environment may ask which resolver address of this host, on port 53 and nothing else
    pins        which source address each workload's link may use, so that none can pass for another

nft(8) is run as a process: one that hangs can be killed.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv6Network
from typing import Any

from agent.errors import Failed, Stuck
from agent.plan.wanted import Wanted
from agent.system.deadline import SYSTEM_DEADLINE

TABLE = "interlock"
NETWORKS, RESOLVERS, PINS = "networks", "resolvers", "pins"

Element = tuple[str, str]

_REMOVE = f"add table inet {TABLE}\ndelete table inet {TABLE}\n"  # also where there is none

# A script for nft; the variables in it are set by `Firewall`.
RULES = """\
table inet interlock {
    set networks { type ipv6_addr . ipv6_addr; flags interval; }
    set resolvers { type ipv6_addr . ipv6_addr; flags interval; }
    set pins { type ifname . ipv6_addr; }

    # Before anything else looks at a packet: is it from where it says? And nothing but IPv6 is.
    chain source {
        type filter hook prerouting priority raw; policy accept;
        iifname $workloads iifname . ip6 saddr != @pins counter drop
        iifname $workloads meta nfproto != ipv6 counter drop
        iifname $tunnel ip6 saddr $infrastructure counter drop
    }

    # From a member of an environment to a member of the same, by our own links alone.
    chain between {
        type filter hook forward priority filter; policy accept;
        iifname $ours oifname $ours ip6 saddr . ip6 daddr @networks accept
        iifname $ours counter drop
        oifname $ours counter drop
    }

    # Of this host, its resolver is all that there is.
    chain to_host {
        type filter hook input priority filter; policy accept;
        iifname $ours ip6 saddr . ip6 daddr @resolvers meta l4proto { tcp, udp } th dport 53 accept
        iifname $ours counter drop
    }

    # The host speaks to members only as their resolver, and to say why a packet cannot go on (RFC 4443 §3).
    chain from_host {
        type filter hook output priority filter; policy accept;
        oifname $ours ip6 daddr . ip6 saddr @resolvers meta l4proto { tcp, udp } th sport 53 accept
        oifname $ours icmpv6 type $cannot_go_on accept
        oifname $ours counter drop
    }
}
"""
CHAINS = ("source", "between", "to_host", "from_host")


@dataclass(frozen=True, slots=True)
class Ruleset:
    """The table as it is: the members of its sets, and its chains and rules in a form that can be compared.

    ``drops`` counts the packets that were dropped, by chain.
    """

    elements: Mapping[str, frozenset[Element]]
    rules: str
    drops: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Change:
    """Elements to be removed from and added to a set."""

    name: str
    remove: tuple[Element, ...]
    add: tuple[Element, ...]


def elements(wanted: Wanted) -> dict[str, frozenset[Element]]:
    """The members of the sets that ``wanted`` calls for."""
    return {
        NETWORKS: frozenset((str(network), str(network)) for network in wanted.networks),
        RESOLVERS: frozenset((str(network), str(address)) for network, address in wanted.resolvers),
        PINS: frozenset((interface, str(address)) for interface, address in wanted.workloads.items()),
    }


def diff(wanted: Mapping[str, frozenset[Element]], actual: Mapping[str, frozenset[Element]]) -> list[Change]:
    """What is to be done to ``actual``; nothing for sets that are right."""
    changes = []
    for name, members in wanted.items():
        there = actual.get(name, frozenset())
        if members != there:
            changes.append(Change(name, tuple(sorted(there - members)), tuple(sorted(members - there))))
    return changes


class Firewall:
    """The table of the host whose device is ``device`` and whose workloads' links begin with ``workloads``.

    All methods raise `Failed`, and `Stuck` where nft does not end in time.
    """

    def __init__(self, device: str, workloads: str, infrastructure: IPv6Network) -> None:
        self._rules = f"""\
define tunnel = "{device}"
define workloads = "{workloads}*"
define ours = {{ "{device}", "{workloads}*" }}
define infrastructure = {infrastructure}
define cannot_go_on = {{ destination-unreachable, packet-too-big, time-exceeded, parameter-problem }}
{RULES}"""
        self._expected = ""  # the rules as the kernel tells them right after they were made

    async def ensure(self) -> None:
        """Makes the rules be there and be ours, in one transaction; the members of the sets stay."""
        wipe = "".join(f"add chain inet {TABLE} {chain}\nflush chain inet {TABLE} {chain}\n" for chain in CHAINS)
        there = await self._list()
        try:
            await _change((wipe if there else "") + self._rules)
        except Failed:
            # Chains that somebody made into something else cannot be mended, only made anew, with the sets.
            await _change(_REMOVE + self._rules)
        made = await self._list()
        if made is None:
            raise Failed("nft made the table, but does not show it: is it a working nft?")
        self._expected = _rules(made)

    async def read(self) -> Ruleset | None:
        """The table as it is; None where there is none."""
        listed = await self._list()
        if listed is None:
            return None
        return Ruleset(_elements(listed), _rules(listed), _drops(listed))

    def is_intact(self, wall: Ruleset | None) -> bool:
        """Whether the rules are as `ensure` made them."""
        return wall is not None and wall.rules == self._expected

    async def apply(self, changes: Iterable[Change]) -> None:
        """Makes ``changes``, all in one transaction."""
        if script := "".join(self._script(change) for change in changes):
            await _change(script)

    async def remove(self) -> None:
        """Makes the table be gone."""
        await _change(_REMOVE)

    def _script(self, change: Change) -> str:
        lines = ""
        for verb, members in (("delete", change.remove), ("add", change.add)):
            if members:
                written = ", ".join(f"{_word(one)} . {other}" for one, other in members)
                lines += f"{verb} element inet {TABLE} {change.name} {{ {written} }}\n"
        return lines

    async def _list(self) -> list[dict[str, Any]] | None:
        try:
            text = await _nft("--json", "list", "table", "inet", TABLE)
        except Failed as error:
            if "No such file or directory" in str(error):
                return None
            raise
        found: list[dict[str, Any]] = json.loads(text)["nftables"]
        return found


async def _change(script: str) -> None:
    """Makes the changes that ``script`` is made of, all or none."""
    await _nft("--file", "-", script=script)


async def _nft(*arguments: str, script: str = "") -> str:
    program = shutil.which("nft", path="/usr/sbin:/sbin:/usr/local/sbin:/usr/bin")
    if program is None:
        raise Failed("there is no nft, which keeps environments apart: install the package nftables")
    # In a thread: starting a process from one is quick, and asyncio's own way of it takes five times as long.
    return await asyncio.to_thread(_run, [program, *arguments], script)


def _run(command: list[str], script: str) -> str:
    try:
        done = subprocess.run(  # noqa: S603 nft, and names and addresses that were checked
            command, input=script, capture_output=True, text=True, check=False, timeout=SYSTEM_DEADLINE
        )
    except subprocess.TimeoutExpired:
        raise Stuck(f"nft has not ended after {SYSTEM_DEADLINE:g} s: is another nft holding on to the rules?") from None
    if done.returncode:
        raise Failed(f"nft: {' '.join(done.stderr.split())[:300]}")
    return done.stdout


def _word(text: str) -> str:
    return text if ":" in text else f'"{text}"'


def _elements(listed: Iterable[Mapping[str, Any]]) -> dict[str, frozenset[Element]]:
    return {
        entry["set"]["name"]: frozenset(_element(one) for one in entry["set"].get("elem", ()))
        for entry in listed
        if "set" in entry
    }


def _element(told: Any) -> Element:
    # An element that carries something more, such as a comment, is wrapped once more.
    parts = told["elem"]["val"]["concat"] if "elem" in told else told["concat"]
    first, second = (_part(part) for part in parts)
    return first, second


def _part(told: Any) -> str:
    if isinstance(told, dict):
        return f"{told['prefix']['addr']}/{told['prefix']['len']}" if "prefix" in told else json.dumps(told)
    return str(told)


def _rules(listed: Iterable[Mapping[str, Any]]) -> str:
    told = [entry for entry in listed if "chain" in entry or "rule" in entry]
    return json.dumps([_without_state(entry) for entry in told], sort_keys=True)


def _without_state(told: Any) -> Any:
    """``told`` without what changes by itself: handles, and what counters have counted."""
    if isinstance(told, dict):
        return {
            name: None if name == "counter" else _without_state(value)
            for name, value in told.items()
            if name != "handle"
        }
    return [_without_state(one) for one in told] if isinstance(told, list) else told


def _drops(listed: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    drops: dict[str, int] = {}
    for entry in listed:
        if "rule" in entry:
            for expression in entry["rule"]["expr"]:
                if counter := expression.get("counter"):
                    chain = entry["rule"]["chain"]
                    drops[chain] = drops.get(chain, 0) + counter["packets"]
    return drops
