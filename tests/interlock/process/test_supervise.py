"""Supervision: parts start in order, are restarted when they crash, and stop in reverse order."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from itertools import pairwise

import pytest

from interlock.errors import PartFailed
from interlock.process.supervise import Part, Supervisor
from tests.waiting import until


class Recorded:
    """Makes parts that record their starts and ends; ``crash`` ends the part with a name."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self._crashes: dict[str, asyncio.Future[None]] = {}

    def part(self, name: str) -> Part:
        async def run(ready: Callable[[], None]) -> None:
            self.events.append(f"{name} starts")
            self._crashes[name] = asyncio.get_running_loop().create_future()
            ready()
            try:
                await self._crashes[name]
            finally:
                self.events.append(f"{name} ends")

        return Part(name, run)

    def crash(self, name: str, error: Exception | None) -> None:
        if error:
            self._crashes[name].set_exception(error)
        else:
            self._crashes[name].set_result(None)


async def test_parts_start_in_order_and_stop_in_reverse() -> None:
    recorded = Recorded()
    supervisor = Supervisor([recorded.part("store"), recorded.part("resolver")])
    await supervisor.start()
    await supervisor.stop()
    assert recorded.events == ["store starts", "resolver starts", "resolver ends", "store ends"]


@pytest.mark.parametrize(
    ("error", "reason", "traced"),
    [
        (ZeroDivisionError("oops"), "oops", True),
        (PartFailed("the disk is full"), "the disk is full", False),
        (None, "the part ended by itself", False),
    ],
)
async def test_a_crash_is_logged_and_counted_and_the_part_is_restarted(
    error: Exception | None, reason: str, traced: bool, caplog: pytest.LogCaptureFixture
) -> None:
    recorded = Recorded()
    supervisor = Supervisor([recorded.part("one"), recorded.part("two")], first_delay=0.01)
    await supervisor.start()
    recorded.crash("one", error)
    await until(lambda: "one" in supervisor.down)
    assert "two" not in supervisor.down
    await until(lambda: recorded.events.count("one starts") == 2)
    assert not supervisor.down
    assert supervisor.restarts == {"one": 1, "two": 0}
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.getMessage() == "part_failed"
    assert vars(record)["reason"] == reason
    assert bool(record.exc_info) is traced
    assert recorded.events.count("two starts") == 1
    await supervisor.stop()


async def test_a_part_that_cannot_start_ends_the_start() -> None:
    recorded = Recorded()

    async def fail(_ready: Callable[[], None]) -> None:
        raise PartFailed("the port is taken")

    supervisor = Supervisor([recorded.part("store"), Part("resolver", fail), recorded.part("admin")])
    with pytest.raises(PartFailed, match="the port is taken"):
        await supervisor.start()
    await supervisor.stop()
    assert recorded.events == ["store starts", "store ends"]


async def test_a_part_that_is_not_vital_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    recorded, is_taken = Recorded(), True

    async def listen(ready: Callable[[], None]) -> None:
        if is_taken:
            raise PartFailed("the port is taken")
        ready()
        await asyncio.Future()

    parts = [recorded.part("resolver"), Part("admin", listen, is_vital=False), recorded.part("store")]
    supervisor = Supervisor(parts, first_delay=0.01)
    await supervisor.start()
    assert supervisor.down == {"admin"}
    assert recorded.events == ["resolver starts", "store starts"]
    is_taken = False
    await until(lambda: not supervisor.down)
    assert {vars(record)["reason"] for record in caplog.records} == {"the port is taken"}
    await supervisor.stop()


async def test_the_delay_between_restarts_grows() -> None:
    starts: list[float] = []

    async def crash(ready: Callable[[], None]) -> None:
        starts.append(asyncio.get_running_loop().time())
        ready()
        raise ZeroDivisionError

    supervisor = Supervisor([Part("one", crash)], first_delay=0.02)
    await supervisor.start()
    await until(lambda: len(starts) == 5)
    await supervisor.stop()
    gaps = [later - earlier for earlier, later in pairwise(starts)]
    assert gaps[3] > gaps[0]
    assert gaps[3] >= 0.02 * 8 / 2  # jitter takes half at most


async def test_a_start_can_be_cancelled() -> None:
    hung = asyncio.Event()

    async def hang(_ready: Callable[[], None]) -> None:
        hung.set()
        await asyncio.Future()

    supervisor = Supervisor([Part("slow", hang)])
    starting = asyncio.create_task(supervisor.start())
    await hung.wait()
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    await supervisor.stop()
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "slow"]


async def test_the_others_stop_when_a_part_fails_while_it_stops(
    caplog: pytest.LogCaptureFixture,
) -> None:
    recorded = Recorded()

    async def stumble(ready: Callable[[], None]) -> None:
        ready()
        try:
            await asyncio.Future()
        finally:
            raise PartFailed("it would not close")

    supervisor = Supervisor([recorded.part("store"), Part("admin", stumble)])
    await supervisor.start()
    await supervisor.stop()
    assert recorded.events[-1] == "store ends"
    assert [record.getMessage() for record in caplog.records] == ["part_failed_to_end"]
