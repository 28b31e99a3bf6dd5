"""The mesh as the agents see it: the hosts, and the links between those that share an environment.

Behind ``GET /v1/mesh``. The agents read their WireGuard devices, and probe nothing: a link that carries no traffic is
as it was when it carried some. `interlock doctor` probes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from agent.examine.facts import HostFacts
from agent.examine.links import LinkFacts
from agent.examine.question import Question
from interlock.asked.hosts import HostsAsked
from zones.hosts import Host

OLDER = "its agent is of an older release, and does not show its links"


@dataclass(slots=True)
class MeshService:
    """Asks for the links."""

    asked: HostsAsked | None
    """Asks the hosts; None where this process serves none."""

    async def show(self) -> dict[str, Any]:
        """All hosts and links, fit for JSON."""
        if self.asked is None:
            return {"hosts": [], "links": []}
        state = self.asked.service.state
        answers, down = await self.asked.ask(Question(links=True)), state.hosts.down
        hosts, links = [], []
        for id_, host in sorted(state.hosts.hosts.items()):
            facts = answers.get(id_, "")
            if isinstance(facts, HostFacts) and facts.links is None:
                facts = OLDER
            hosts.append(self._describe(host, facts, is_down=id_ in down))
            if isinstance(facts, HostFacts):
                links += [_link(id_, one, is_down=one.host in down) for one in facts.links or ()]
        heard = {one["source"] for one in links}
        # Of a host that is not heard itself, the others say whether they reach it.
        links += [
            {**_NOTHING, "source": one["target"], "target": one["source"], "state": "down" if is_down else "unknown"}
            for one in list(links)
            if one["target"] not in heard and one["target"] in state.hosts.hosts
            for is_down in [one["target"] in down]
        ]
        return {"hosts": hosts, "links": sorted(links, key=lambda one: (one["source"], one["target"]))}

    def _describe(self, host: Host, facts: HostFacts | str, *, is_down: bool) -> dict[str, Any]:
        assert self.asked
        behind = 0
        if isinstance(facts, HostFacts):
            known = self.asked.service.state.environments
            behind = sum(known[id_].environment.revision > facts.served.get(id_, 0) for id_ in self._on(host.id))
        kind = "down" if is_down else "unheard" if isinstance(facts, str) else "draining" if host.draining else "live"
        return {
            "id": host.id,
            "region": host.region,
            "endpoint": host.endpoint,
            "state": "behind" if kind == "live" and behind else kind,
            "behind": behind,
            "problem": facts if isinstance(facts, str) and not is_down else "",
        }

    def _on(self, host: str) -> list[Any]:
        assert self.asked
        return list(self.asked.service.state.environments_on(host))


_NOTHING: dict[str, Any] = {"handshake_seconds": None, "silent_seconds": None, "received": 0, "sent": 0}


def _link(source: str, link: LinkFacts, *, is_down: bool) -> dict[str, Any]:
    if is_down:
        kind = "down"
    elif not link.has_peer:
        kind = "missing"
    elif link.silent is not None:
        kind = "silent"
    else:
        kind = "idle" if link.handshake_age is None else "ok"
    return {
        "source": source,
        "target": link.host,
        "state": kind,
        "handshake_seconds": link.handshake_age,
        "silent_seconds": link.silent,
        "received": link.received,
        "sent": link.sent,
    }
