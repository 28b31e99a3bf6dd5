"""The agent passes look-ups of its host's resolvers on while the control plane asks, and holds up nothing for them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

from agent import lookups as module
from agent.control_plane.connection import ControlPlane
from agent.control_plane.errors import Unavailable
from agent.lookups import LookupRelay
from tests.waiting import until
from watcher.session.lookups import LookupFilter
from watcher.session.protocol import Done, Seen, Watch

LINE = (
    b'{"time": 1.5, "environment": "production", "source": "fd12::1", "name": "%s.", "type": "A", "rcode": "NOERROR"}\n'
)
ALL = Watch((LookupFilter(),), 1000)


writers: list[asyncio.StreamWriter] = []


class Control:
    """A control plane that keeps what it is told, and answers when a test lets it."""

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self.answers = asyncio.Event()
        self.answers.set()
        self.is_away = False

    async def ask(self, request: Seen, kind: type[Done]) -> Done:
        self.seen.append(request)
        await self.answers.wait()
        if self.is_away:
            raise Unavailable("it is away")
        return Done(1)

    @property
    def names(self) -> list[str]:
        return [lookup.name for seen in self.seen for lookup in seen.lookups]

    @property
    def left_out(self) -> int:
        return sum(sum(seen.left_out.values()) for seen in self.seen)


@asynccontextmanager
async def relaying(directory: Path) -> AsyncIterator[tuple[LookupRelay, Control, Path]]:
    control, path = Control(), directory / "lookups.sock"
    relay = LookupRelay(cast("ControlPlane", control), path, None)
    task = asyncio.create_task(relay.run())
    await until(path.exists)
    try:
        yield relay, control, path
    finally:
        for writer in writers:
            writer.close()
        writers.clear()
        task.cancel()
        await asyncio.wait({task})


async def connect(path: Path) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_unix_connection(path)
    writers.append(writer)
    return reader, writer


async def test_it_asks_all_resolvers_and_passes_on_what_they_give(tmp_path: Path) -> None:
    async with relaying(tmp_path) as (relay, control, path):
        assert path.stat().st_mode & 0o777 == 0o660
        (reader, writer), (other, _) = await connect(path), await connect(path)
        await until(lambda: len(relay._resolvers) == 2)
        relay.take_question(ALL)
        assert await reader.readline() == await other.readline() == b'{"filters":[{}],"most":1000}\n'
        late, _ = await connect(path)
        assert await late.readline() == b'{"filters":[{}],"most":1000}\n'
        await until(lambda: control.seen and control.seen[-1].resolvers == 3)
        writer.write(LINE % b"one" + b"nonsense\n" + LINE % (b"x" * 5000) + b'{"skipped": {"production": 4}}\n')
        await until(lambda: "one." in control.names and control.left_out == 4)
        relay.take_question(Watch())
        assert await reader.readline() == b'{"filters":[],"most":0}\n'
        before = len(control.seen)
        writer.write(LINE % b"late")
        writer.close()
        await until(lambda: len(relay._resolvers) == 2)
        assert len(control.seen) == before


async def test_what_a_slow_control_plane_does_not_take_is_left_out(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(module, "WAITING", 10)
    async with relaying(tmp_path) as (relay, control, path):
        relay.take_question(ALL)
        await until(lambda: control.seen)
        control.answers.clear()
        _, writer = await connect(path)
        await until(lambda: control.seen[-1].resolvers == 1)  # it has been asked, and does not answer
        for number in range(30):
            writer.write(LINE % b"n%d" % number)
        await until(lambda: len(relay._waiting) + relay._left_out.total() == 30)
        assert len(relay._waiting) == 10
        control.answers.set()
        await until(lambda: len(control.names) == 10 and control.left_out == 20)


async def test_no_more_than_was_asked_for_are_passed_on(tmp_path: Path) -> None:
    async with relaying(tmp_path) as (relay, control, path):
        relay.take_question(Watch((LookupFilter(),), 3))
        relay._second = float("inf")  # this second never ends
        _, writer = await connect(path)
        writer.write(LINE % b"x" * 8)
        await until(lambda: len(control.names) + control.left_out == 8)
        assert (len(control.names), control.left_out) == (3, 5)


async def test_what_was_not_taken_counts_as_left_out(tmp_path: Path) -> None:
    async with relaying(tmp_path) as (relay, control, path):
        relay.take_question(ALL)
        await until(lambda: control.seen)
        control.is_away = True
        _, writer = await connect(path)
        writer.write(LINE % b"x" * 2)
        await until(lambda: len(control.names) == 2)
        control.is_away = False
        writer.write(LINE % b"y")
        await until(lambda: control.left_out == 2 and control.names[-1] == "y.")
