"""The firewall: one nftables table that drops all traffic to and from the agent's links, except what it allows.

It does so whatever else the host filters. The rules never change while the agent runs; what changes are the members of
three sets (`agent.plan.firewall`). So a commit adds or removes elements in one transaction, and at no moment is less
filtered than before.

    networks    which networks may exchange packets: each environment's with itself, as pairs of the first addresses
    resolvers   which environment may query which resolver address of this host, on port 53 and nothing else
    pins        which source address each workload's link may use, so that no workload can use another's

Two more sets are the kernel's own: how many fragments (`fragments`), and how many queries (`askers`), each sender has
sent lately. What is dropped is counted, but for what kernels say to whoever is on a link, by multicast of the link
(``ff02::/16``): it is nobody's attempt to get anywhere.

nft(8) makes the rules and lists them, as a process: one that hangs can be killed. What goes with every attach is asked
of the kernel itself (`nftables_messages`): to change members, to read the counters, and whether anybody has changed
anything since, which the generation of the ruleset tells. So a running agent starts no process where nobody else works
on the firewall of its host.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import replace
from ipaddress import IPv6Network
from typing import Any, TypeVar

from agent.errors import Failed, Stuck
from agent.plan.firewall import NETWORKS, PINS, RESOLVERS, Element, Ruleset, SetChange
from agent.system import nftables_messages as messages
from agent.system.deadline import SYSTEM_DEADLINE, answered_in_time
from agent.system.netlink_socket import Interrupted, NetlinkSocket
from agent.system.route_messages import OUR_GROUP
from zones.addresses import ENVIRONMENT_BITS

T = TypeVar("T")

TABLE = "interlock"

_REMOVE = f"add table inet {TABLE}\ndelete table inet {TABLE}\n"  # no error where there is none

# A script for nft; the variables in it are set by `Firewall`. Each packet of the host, WireGuard's own included, meets
# all base chains of its hooks: what is no member's leaves them after comparisons with links and addresses alone. Links
# are compared one by one, for a set with a prefix in it ("rail*") is a tree, and costs a rule four times as much. Where
# being the agent's own lets a packet pass, links are told by their group, which costs half; where it keeps a packet
# back, by their names: a link that has lost its group is cut off, and gets nowhere else.
RULES = """\
table inet interlock {
    set networks { type ipv6_addr . ipv6_addr; }
    set resolvers { type ipv6_addr . ipv6_addr; flags interval; }
    set pins { type ifname . ipv6_addr; }
    set fragments { type ifname . ipv6_addr; size 65535; flags dynamic,timeout; timeout 10s; }
    set askers { type ifname . ipv6_addr; size 65535; flags dynamic,timeout; timeout 10s; }

    # Before anything else looks at a packet, also before conntrack puts fragments together (-400): does its source
    # belong to where it comes from? And only IPv6 may enter. What members send gets no entry in conntrack's table
    # (-200), which is the whole host's: these rules need none, and one member could fill it.
    chain arriving {
        type filter hook prerouting priority -450; policy accept;
        iifname $workloads notrack goto from_workload
        iifname $tunnel notrack goto from_tunnel
        ip6 saddr $platform iifname != "lo" counter drop
        ip6 saddr $platform ip6 saddr != $infrastructure counter drop
        ip6 daddr $platform iifname != "lo" counter drop
    }
    # The usual packet comes first, which is no fragment.
    chain from_workload {
        iifname . ip6 saddr @pins exthdr frag missing accept
        iifname . ip6 saddr @pins goto fragment
        ip6 daddr $link_local drop
        counter drop
    }
    chain from_tunnel {
        ip6 saddr $infrastructure counter drop
        exthdr frag exists goto fragment
    }

    # The resolver gets none. Others are passed on as they are: what one sender could have reassembled here would take
    # the room of all others.
    chain fragment {
        fib daddr type local counter drop
        update @fragments { iifname . ip6 saddr limit rate over 10000/second burst 1000 packets } counter drop
    }

    # From a member of an environment to a member of the same one, between the agent's links alone.
    chain between {
        type filter hook forward priority filter; policy accept;
        iifgroup $ours oifgroup $ours ip6 saddr & $environment . ip6 daddr & $environment @networks accept
        iifname $workloads counter drop
        iifname $tunnel counter drop
        oifname $workloads counter drop
        oifname $tunnel counter drop
    }

    # Of this host itself, members reach the resolver and nothing else.
    chain to_host {
        type filter hook input priority filter; policy accept;
        iifname != $workloads iifname != $tunnel accept
        ip6 saddr . ip6 daddr @resolvers meta l4proto { tcp, udp } th dport 53 goto asking
        ip6 daddr $link_local drop
        counter drop
    }
    # The resolver's packets cost a microsecond each to read, so no member may send it more than it reads with ease.
    chain asking {
        meta l4proto tcp accept
        update @askers { iifname . ip6 saddr limit rate over 20000/second burst 5000 packets } counter drop
    }

    # Its replies to members, which all have addresses of the platform, get no entry either.
    chain leaving {
        type filter hook output priority -450; policy accept;
        ip6 daddr $platform oifname != "lo" notrack
    }

    # The host sends to members only as their resolver, and ICMPv6 errors about their packets (RFC 4443 §3).
    chain from_host {
        type filter hook output priority filter; policy accept;
        ip6 saddr $platform oifname != $workloads oifname != $tunnel oifname != "lo" counter drop
        ip6 daddr $platform oifname != $workloads oifname != $tunnel oifname != "lo" counter drop
        oifname != $workloads oifname != $tunnel accept
        ip6 daddr . ip6 saddr @resolvers meta l4proto { tcp, udp } th sport 53 accept
        icmpv6 type $cannot_go_on accept
        ip6 daddr $link_local drop
        counter drop
    }
}
"""
CHAINS = ("arriving", "from_workload", "from_tunnel", "fragment", "between", "to_host", "asking", "from_host")
"""The chains that drop packets, in the order in which a packet meets them."""
OTHER_CHAINS = ("leaving",)
"""The chains that count nothing."""

SETS = (NETWORKS, RESOLVERS, PINS)
# Seconds for nft(8), which runs when an agent starts and after somebody else's changes: a process that is started takes
# that long where many others want the processor, and an agent that gives up then does not start at all.
NFT_DEADLINE = 15.0
_STUCK = f"nft has not ended after {NFT_DEADLINE:g} s: is another nft holding on to the rules?"
_LATE = f"nftables has not answered for {SYSTEM_DEADLINE:g} s: is another program holding on to the rules?"

# The mask of an environment's network. All networks have one length, so the set that every packet is looked up in is a
# hash table: 0.2 to 0.4 microseconds a packet less than by prefixes, the more the more environments there are.
_ENVIRONMENT = IPv6Network(f"::/{ENVIRONMENT_BITS}").netmask


class Firewall:
    """The table of the host whose WireGuard device is ``device`` and whose workloads' links begin with ``workloads``.

    ``platform`` is the prefix of all environments, and ``infrastructure`` the network in it of the resolver addresses,
    which no packet from the device may claim as its source. All methods raise `Failed`, and `Stuck` where nft does not
    end in time.
    """

    def __init__(self, device: str, workloads: str, platform: IPv6Network, infrastructure: IPv6Network) -> None:
        self._rules = f"""\
define ours = {OUR_GROUP}
define tunnel = "{device}"
define workloads = "{workloads}*"
define platform = {platform}
define infrastructure = {infrastructure}
define environment = {_ENVIRONMENT}
define link_local = ff02::/16
define cannot_go_on = {{ destination-unreachable, packet-too-big, time-exceeded, parameter-problem }}
{RULES}"""
        self._expected = ""  # the rules as the kernel listed them right after `ensure` made them
        self._known: Ruleset | None = None  # the table as it is at ``_generation``
        self._generation = -1
        self._is_changing = False

    async def ensure(self) -> None:
        """Creates the table, or replaces its rules, in one transaction; the members of the sets stay."""
        existing = await self._list()
        try:
            await _run_script(_wipe(existing or ()) + self._rules + _former_networks(existing or ()))
        except Failed:
            # A chain that somebody gave another hook cannot be corrected: the table is made anew, with empty sets.
            await _run_script(_REMOVE + self._rules)
        made = await self._list()
        if made is None:
            raise Failed("nft created the table, but does not list it: does nft work on this host?")
        self._expected = _rules(made)

    async def read(self) -> Ruleset | None:
        """The table as it is; None where there is none."""
        generation = read_generation()
        if self._known and generation == self._generation:
            return replace(self._known, drops=await self._in_time(_read_packets))
        self._known = None
        listed = await self._list()
        if listed is None:
            return None
        ruleset = Ruleset(_elements(listed), _rules(listed), _drops(listed))
        if read_generation() == generation:
            self._known, self._generation = ruleset, generation
        return ruleset

    def is_as_left(self) -> bool:
        """Whether nobody else has changed nftables since it was read. Changes by this object are none."""
        try:
            return self._is_changing or (self._known is not None and read_generation() == self._generation)
        except Failed:
            return False

    def is_intact(self, ruleset: Ruleset | None) -> bool:
        """Whether the table exists and its rules are as `ensure` made them."""
        return ruleset is not None and ruleset.rules == self._expected

    async def apply(self, changes: Iterable[SetChange]) -> None:
        """Makes ``changes`` to the sets, all in one transaction."""
        changes = list(changes)
        if not (transaction := messages.transaction(TABLE, changes)):
            return
        known, before = self._known, read_generation()
        self._known, self._is_changing = None, True  # not known, should it fail
        try:
            await self._in_time(lambda nftables: nftables.transact(transaction))
        finally:
            self._is_changing = False
        after = read_generation()
        if known and (before, after) == (self._generation, self._generation + 1):  # else another one was between
            self._known, self._generation = _changed(known, changes), after

    async def remove(self) -> None:
        """Removes the table."""
        await _run_script(_REMOVE)

    async def _in_time(self, work: Callable[[NetlinkSocket], T]) -> T:
        """What ``work`` gives. It is done in a thread: others may hold on to the rules for long."""
        netlink = NetlinkSocket(messages.PROTOCOL)  # made here: it belongs to this thread's network namespace

        def work_and_close() -> T:
            with closing(netlink):
                return work(netlink)

        try:
            async with answered_in_time("nftables"):
                return await asyncio.to_thread(work_and_close)
        except TimeoutError:
            raise Stuck(_LATE) from None
        except OSError as error:
            raise Failed(f"nftables: the kernel says: {error.strerror}") from error

    async def _list(self) -> list[dict[str, Any]] | None:
        try:
            text = await run_nft("--json", "list", "table", "inet", TABLE)
        except Failed as error:
            if "No such file or directory" in str(error):
                return None
            raise
        found: list[dict[str, Any]] = json.loads(text)["nftables"]
        return found


def read_generation() -> int:
    """The number of the ruleset of this network namespace: another one after each change. Raises `Failed`, `Stuck`."""
    try:
        with closing(NetlinkSocket(messages.PROTOCOL)) as netlink:
            (answer,) = netlink.ask(*messages.ask_generation(), time.monotonic() + SYSTEM_DEADLINE)
    except TimeoutError:
        raise Stuck(_LATE) from None
    except OSError as error:
        raise Failed(f"nftables: the kernel says: {error.strerror}") from error
    return messages.read_generation(answer)


def _read_packets(nftables: NetlinkSocket) -> dict[str, int]:
    deadline = time.monotonic() + SYSTEM_DEADLINE
    while True:
        try:
            return messages.read_packets(nftables.ask(*messages.ask_rules(TABLE), deadline))
        except Interrupted:
            continue


def _changed(ruleset: Ruleset, changes: Iterable[SetChange]) -> Ruleset:
    """``ruleset`` once ``changes`` have been made."""
    members = dict(ruleset.elements)
    for change in changes:
        members[change.name] = members.get(change.name, frozenset()).difference(change.remove).union(change.add)
    return replace(ruleset, elements=members)


async def _run_script(script: str) -> None:
    """Has nft carry out ``script``, all of it or nothing."""
    await run_nft("--file", "-", script=script)


async def run_nft(*arguments: str, script: str = "") -> str:
    """What nft(8) prints. Raises `Failed`, and `Stuck` where it does not end in time."""
    program = shutil.which("nft", path="/usr/sbin:/sbin:/usr/local/sbin:/usr/bin")
    if program is None:
        raise Failed("there is no nft, which keeps environments apart: install the package nftables")
    # In a thread: that starts a process five times as fast as asyncio's own subprocesses do.
    return await asyncio.to_thread(_run, [program, *arguments], script)


def _run(command: list[str], script: str) -> str:
    try:
        done = subprocess.run(  # noqa: S603 the program is nft, and names and addresses were checked
            command, input=script, capture_output=True, text=True, check=False, timeout=NFT_DEADLINE
        )
    except subprocess.TimeoutExpired:
        raise Stuck(_STUCK) from None
    if done.returncode:
        raise Failed(f"nft: {' '.join(done.stderr.split())[:300]}")
    return done.stdout


def _wipe(listed: Iterable[Mapping[str, Any]]) -> str:
    """Empties all chains of the table, and removes those that an earlier release or somebody else has made."""
    found = [entry["chain"]["name"] for entry in listed if "chain" in entry]
    ours = (*CHAINS, *OTHER_CHAINS)
    flush = "".join(f"flush chain inet {TABLE} {chain}\n" for chain in found)
    if _former_networks(listed):
        flush += f"delete set inet {TABLE} {NETWORKS}\n"
    return flush + "".join(f"delete chain inet {TABLE} {chain}\n" for chain in found if chain not in ours)


def _former_networks(listed: Iterable[Mapping[str, Any]]) -> str:
    """Adds the members of `NETWORKS` of an earlier release, where that is a set of prefixes and not of addresses."""
    for entry in listed:
        if "set" in entry and entry["set"]["name"] == NETWORKS and "interval" in entry["set"].get("flags", ()):
            networks = [_element(one)[0].partition("/")[0] for one in entry["set"].get("elem", ())]
            members = ", ".join(f"{network} . {network}" for network in networks)
            return f"add element inet {TABLE} {NETWORKS} {{ {members} }}\n" if members else "\n"
    return ""


def _elements(listed: Iterable[Mapping[str, Any]]) -> dict[str, frozenset[Element]]:
    return {
        entry["set"]["name"]: frozenset(_element(one) for one in entry["set"].get("elem", ()))
        for entry in listed
        if "set" in entry and entry["set"]["name"] in SETS
    }


def _element(listed: Any) -> Element:
    # An element that carries more, such as a comment, is listed inside another object.
    parts = listed["elem"]["val"]["concat"] if "elem" in listed else listed["concat"]
    first, second = (_part(part) for part in parts)
    return first, second


def _part(listed: Any) -> str:
    if isinstance(listed, dict):
        return f"{listed['prefix']['addr']}/{listed['prefix']['len']}" if "prefix" in listed else json.dumps(listed)
    return str(listed)


def _rules(listed: Iterable[Mapping[str, Any]]) -> str:
    entries = [entry for entry in listed if "chain" in entry or "rule" in entry]
    return json.dumps([_without_state(entry) for entry in entries], sort_keys=True)


def _without_state(listed: Any) -> Any:
    """``listed`` without what changes by itself: handles, and the values of counters."""
    if isinstance(listed, dict):
        return {
            name: None if name == "counter" else _without_state(value)
            for name, value in listed.items()
            if name != "handle"
        }
    return [_without_state(one) for one in listed] if isinstance(listed, list) else listed


def _drops(listed: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    drops: dict[str, int] = {}
    for entry in listed:
        if "rule" in entry:
            for expression in entry["rule"]["expr"]:
                if counter := expression.get("counter"):
                    chain = entry["rule"]["chain"]
                    drops[chain] = drops.get(chain, 0) + counter["packets"]
    return drops
