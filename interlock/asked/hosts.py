"""The agents of all hosts, asked at once over their sessions. An answer is good for a second, for all who ask the same.

So however many people look at a page, each agent is asked once a second.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from admin.hosts.service import HostsService
from agent.examine.facts import HostFacts, decode_facts
from agent.examine.question import Question, encode_question
from support.patience import patience

HOST_SECONDS = 1.0  # for a host's answer, which it has in memory
GOOD_FOR = 1.0  # seconds
AT_ONCE = 64  # hosts that are asked at once
MOST_KEPT = 1_000  # questions whose answers are kept

Answers = Mapping[str, HostFacts | str]
"""The facts of each live host; for one that gave none, why."""


@dataclass(slots=True)
class HostsAsked:
    """Asks the live hosts."""

    service: HostsService
    """Has the sessions with their agents."""
    _kept: dict[Question, tuple[float, asyncio.Future[Answers]]] = field(default_factory=dict)

    async def ask(self, question: Question) -> Answers:
        """What the live hosts that have a member of the environment in ``question``, if it has one, say to it."""
        kept, now = self._kept.get(question), time.monotonic()
        if kept is None or (now - kept[0] > GOOD_FOR and kept[1].done()):
            kept = self._kept[question] = (now, asyncio.ensure_future(self._ask(question)))
            if len(self._kept) > MOST_KEPT:
                del self._kept[next(iter(self._kept))]
        return await asyncio.shield(kept[1])

    async def _ask(self, question: Question) -> Answers:
        hosts = sorted(self.service.live_hosts(question.environment))
        turn, encoded = asyncio.Semaphore(AT_ONCE), encode_question(question)

        async def ask_one(host: str) -> HostFacts | str:
            async with turn:
                return await self._ask_one(host, encoded)

        return dict(zip(hosts, await asyncio.gather(*map(ask_one, hosts)), strict=True))

    async def _ask_one(self, host: str, question: str) -> HostFacts | str:
        try:
            async with asyncio.timeout(HOST_SECONDS * patience()):
                answer = await self.service.sessions.examine(host, question)
            return decode_facts(answer.encode()) if answer else "its agent has no session with this control plane"
        except TimeoutError:
            return f"its agent has not answered within {HOST_SECONDS:g} s"
        except ValueError as error:
            return f"its agent is of another release: {error}"
