"""What a control plane asks the agent of a host, for `interlock doctor`: each question waits for its facts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from itertools import count

from watcher.session.protocol import Examine, Examined, encode


@dataclass(slots=True)
class Examinations:
    """The questions of one session that have no answer yet."""

    _numbers: count[int] = field(default_factory=lambda: count(1))
    _asked: dict[int, asyncio.Future[str]] = field(default_factory=dict)

    async def ask(self, question: str, send: Callable[[bytes], Awaitable[None]]) -> str:
        """The facts that the agent gives for ``question``, both in JSON; an older agent never answers."""
        number = next(self._numbers)
        asked = self._asked[number] = asyncio.get_running_loop().create_future()
        try:
            await send(encode(Examine(number, question)))
            facts: str = await asked
            return facts
        finally:
            del self._asked[number]

    def take(self, examined: Examined) -> None:
        """Takes the agent's answer. One that comes too late, or to nothing that was asked, is passed over."""
        asked = self._asked.get(examined.ask)
        if asked and not asked.done():
            asked.set_result(examined.facts)
