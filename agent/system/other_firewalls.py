"""The other firewalls of this host: which of them drops the packets that the agent's table accepts.

In nftables a packet passes where every base chain of its hook lets it through. Docker and many a firewall give the
forward hook a chain that drops what no rule of theirs accepts, and most give the input hook one. The agent leaves those
to their owners, and says what is to be added. They are listed by nft(8), a process, when the generation of the ruleset
says that something has changed. What a rule drops by its own conditions is not found.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from agent.errors import Failed
from agent.system.nftables import TABLE, read_generation, run_nft

_FAMILIES = ("ip6", "inet")  # those that see IPv6 packets
_DNS = 53
_END = ("accept", "jump", "goto")  # what a rule may do with what it is made to let through: a chain of its owner's


@dataclass(frozen=True, slots=True)
class _Hook:
    """What a chain of one hook has to let through for workloads."""

    interface: str
    """The key by which a rule knows the workloads' links there."""
    port: str
    """The field in which a packet of the resolver has its port; empty where others pass as well."""
    dropped: str
    """What a chain drops that does not, in words."""


_HOOKS = {
    "forward": _Hook("iifname", "", "what this host forwards, so workloads do not reach other hosts"),
    "input": _Hook("iifname", "dport", "the queries of workloads to this host's resolver, so no name resolves in them"),
    "output": _Hook("oifname", "sport", "what this host's resolver replies to workloads, so no name resolves in them"),
}


@dataclass(slots=True)
class OtherFirewalls:
    """Those beside the table of the agent."""

    device: str
    """The WireGuard device."""
    workloads: str
    """How the names of the workloads' links begin."""
    _seen: int = -1  # the generation at which they were listed last
    _found: list[str] = field(default_factory=list)

    async def drops(self) -> list[str]:
        """Each chain that drops what workloads send, or are sent, as a sentence with its remedy. Raises `Failed`."""
        generation = read_generation()
        if generation != self._seen:
            self._found = [_sentence(*each) for each in await self._dropping()]
            self._seen = generation
        return self._found

    async def _dropping(self) -> list[tuple[Mapping[str, Any], list[str]]]:
        """The chains, each with the interfaces whose packets no rule of its table accepts."""
        listed = json.loads(await run_nft("--json", "list", "chains"))["nftables"]
        found = []
        for chain in (entry["chain"] for entry in listed if "chain" in entry):
            if chain["family"] in _FAMILIES and chain["table"] != TABLE and chain.get("hook") in _HOOKS:
                named = chain["family"], chain["table"]
                try:
                    table = json.loads(await run_nft("--json", "list", "table", *named))["nftables"]
                except (Failed, ValueError):
                    continue  # it was removed meanwhile
                rules = [entry["rule"] for entry in table if "rule" in entry]
                if _drops_the_rest(chain, rules):
                    names = f"{self.workloads}*", self.device
                    missing = [name for name in names if not _accepts(rules, _HOOKS[chain["hook"]], name)]
                    if missing:
                        found.append((chain, missing))
        return found


def _drops_the_rest(chain: Mapping[str, Any], rules: Iterable[Mapping[str, Any]]) -> bool:
    """Whether ``chain`` drops what none of its rules accepts: by its policy, or by a rule without a condition."""
    own = (rule for rule in rules if rule["chain"] == chain["name"])
    return chain.get("policy") == "drop" or any(_is_unconditional(rule, "drop", "reject") for rule in own)


def _is_unconditional(rule: Mapping[str, Any], *ends: str) -> bool:
    """Whether ``rule`` does one of ``ends`` with whatever comes to it."""
    kinds = {kind for expression in rule["expr"] for kind in expression}
    return bool(kinds & {*ends}) and kinds <= {*ends, "counter", "log"}


def _accepts(rules: Iterable[Mapping[str, Any]], hook: _Hook, interface: str) -> bool:
    """Whether one of ``rules`` lets through what passes ``hook`` by ``interface``, or all, or all DNS."""
    for rule in rules:
        if _is_unconditional(rule, "accept"):
            return True
        matches = [expression["match"] for expression in rule["expr"] if "match" in expression]
        if any(end in expression for expression in rule["expr"] for end in _END):
            if any(_is_interface(match, hook.interface, interface) for match in matches):
                return True
            if hook.port and any(_is_dns(match, hook.port) for match in matches):
                return True
    return False


def _is_interface(match: Mapping[str, Any], key: str, interface: str) -> bool:
    found = match.get("left", {}).get("meta", {}).get("key")
    if match.get("op") != "==" or found not in (key, key.removesuffix("name")):
        return False
    return any(isinstance(name, str) and _covers(name, interface) for name in _values(match))


def _is_dns(match: Mapping[str, Any], port: str) -> bool:
    field_ = match.get("left", {}).get("payload", {}).get("field")
    return match.get("op") == "==" and field_ == port and _DNS in _values(match)


def _values(match: Mapping[str, Any]) -> list[Any]:
    right = match.get("right")
    return list(right["set"]) if isinstance(right, dict) and "set" in right else [right]


def _covers(name: str, interface: str) -> bool:
    """Whether ``name``, which may end in a star, stands for all that ``interface`` stands for."""
    return name == interface or (name.endswith("*") and interface.startswith(name[:-1]))


def _sentence(chain: Mapping[str, Any], missing: Iterable[str]) -> str:
    where, hook = f"{chain['family']} {chain['table']} {chain['name']}", _HOOKS[chain["hook"]]
    ports = [f" {protocol} {hook.port} {_DNS}" for protocol in ("udp", "tcp")] if hook.port else [""]
    rules = [f"{hook.interface} '{name}'{port} accept" for name in missing for port in ports]
    remedy = "; ".join(f"nft insert rule {where} {rule}" for rule in rules)
    return f"the chain {where} of another firewall drops {hook.dropped}: add to its owner's rules: {remedy}"
