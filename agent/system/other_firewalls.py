"""The other firewalls of this host: which of them drops the packets that the agent's table accepts.

In nftables a packet passes where every base chain of its hook lets it through. Docker and many a firewall give the
forward hook a chain that drops what no rule of theirs accepts. The agent leaves those to their owners, and says what is
to be added. They are listed by nft(8), a process, when the generation of the ruleset says that something has changed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from agent.errors import Failed
from agent.system.nftables import TABLE, read_generation, run_nft

_FAMILIES = ("ip6", "inet")  # those that see forwarded IPv6 packets


@dataclass(slots=True)
class OtherFirewalls:
    """Those beside the table of the agent."""

    device: str
    """The WireGuard device."""
    workloads: str
    """How the names of the workloads' links begin."""
    _seen: int = -1  # the generation at which they were listed last
    _found: list[str] = field(default_factory=list)

    async def forward_drops(self) -> list[str]:
        """Each chain that drops what the host forwards for workloads, as a sentence with its remedy.

        Raises `Failed`.
        """
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
            if chain["family"] in _FAMILIES and chain["table"] != TABLE and _drops_forwarded(chain):
                named = chain["family"], chain["table"]
                try:
                    table = json.loads(await run_nft("--json", "list", "table", *named))["nftables"]
                except (Failed, ValueError):
                    continue  # it was removed meanwhile
                missing = [name for name in (f"{self.workloads}*", self.device) if not _accepts(table, name)]
                if missing:
                    found.append((chain, missing))
        return found


def _drops_forwarded(chain: Mapping[str, Any]) -> bool:
    return chain.get("hook") == "forward" and chain.get("policy") == "drop"


def _accepts(table: Iterable[Mapping[str, Any]], interface: str) -> bool:
    """Whether a rule of ``table`` accepts what comes in by ``interface``, or all that is forwarded."""
    for entry in table:
        rule = entry.get("rule")
        if rule and any("accept" in expression for expression in rule["expr"]):
            matches = [expression["match"] for expression in rule["expr"] if "match" in expression]
            if any(_is_interface(match, interface) for match in matches):
                return True
    return False


def _is_interface(match: Mapping[str, Any], interface: str) -> bool:
    if match.get("op") != "==" or match.get("left", {}).get("meta", {}).get("key") not in ("iifname", "iif"):
        return False
    right = match.get("right")
    names = right["set"] if isinstance(right, dict) and "set" in right else [right]
    return any(isinstance(name, str) and _covers(name, interface) for name in names)


def _covers(name: str, interface: str) -> bool:
    """Whether ``name``, which may end in a star, stands for all that ``interface`` stands for."""
    return name == interface or (name.endswith("*") and interface.startswith(name[:-1]))


def _sentence(chain: Mapping[str, Any], missing: Iterable[str]) -> str:
    where = f"{chain['family']} {chain['table']} {chain['name']}"
    remedy = "; ".join(f"nft insert rule {where} iifname '{name}' accept" for name in missing)
    return (
        f"the chain {where} of another firewall drops what this host forwards, so workloads do not reach other hosts:"
        f" add to its owner's rules: {remedy}"
    )
