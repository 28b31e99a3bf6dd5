"""Answers a control plane that asks for facts about this host, so that they are seen from elsewhere as well."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field

import msgspec

from agent.control_plane.connection import ControlPlane
from agent.control_plane.errors import ControlPlaneError
from agent.errors import AgentError
from agent.examine.examiner import Examiner
from agent.examine.facts import encode_facts
from agent.examine.question import Question
from watcher.session.protocol import Done, Examine, Examined

AT_ONCE = 4  # examinations; each probes for most of a second. More are not answered

log = logging.getLogger(__name__)


@dataclass(slots=True)
class RemoteExaminations:
    """Examines this host for the control plane."""

    examiner: Examiner
    """Gathers the facts."""
    control_plane: ControlPlane
    """Is sent them."""
    _under_way: set[asyncio.Task[None]] = field(default_factory=set)

    def take(self, asked: Examine) -> None:
        """Begins to answer ``asked``."""
        if len(self._under_way) >= AT_ONCE:
            log.warning("not_examined", extra={"reason": f"{AT_ONCE} examinations are under way"})
            return
        task = asyncio.create_task(self._answer(asked))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _answer(self, asked: Examine) -> None:
        try:
            facts = await self.examiner.examine(_decoder.decode(asked.question))
            await self.control_plane.ask(Examined(0, asked.ask, encode_facts(facts).decode()), Done)
        except (msgspec.DecodeError, AgentError, ControlPlaneError) as error:
            log.warning("not_examined", extra={"reason": str(error)})


_decoder = msgspec.json.Decoder(Question)
