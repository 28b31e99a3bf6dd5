"""Turns: one query of each source after the other, each source at its rate, and none without a bound."""

from __future__ import annotations

import asyncio

import pytest

from resolver.forward.stepwise import Stepwise
from resolver.net import turns
from resolver.net.turns import READ_AFTER, SLICE, SourceRate, Turns
from tests.waiting import until

ONE, OTHER = bytes([127, 0, 0, 2]), bytes([127, 0, 0, 3])


class TestTurns:
    async def test_a_source_with_one_query_does_not_wait_for_one_with_many(self) -> None:
        queue, order = Turns(), list[str]()
        for number in range(100):
            assert queue.put(ONE, lambda number=number: order.append(f"one {number}"))  # type: ignore[misc]
        assert queue.put(OTHER, lambda: order.append("other"))
        await until(lambda: len(order) == 101)
        assert order[:3] == ["one 0", "other", "one 1"]
        assert order[-1] == "one 99"
        assert not queue

    async def test_other_work_goes_on_in_between(self) -> None:
        queue, seen = Turns(), list[int]()
        for _ in range(10 * SLICE):
            queue.put(ONE, lambda: None)
        while queue:
            seen.append(len(queue))
            await asyncio.sleep(0)
        assert len(seen) == 10

    @pytest.mark.parametrize("few", [1, READ_AFTER - 1, READ_AFTER + 2, SLICE])
    async def test_the_sockets_are_read_after_each_few_and_at_the_end(self, few: int) -> None:
        """So what is in the packet cache waits for few replies that are made, and what was made is sent."""
        queue, order = Turns(), list[str]()
        queue.read_sockets = lambda: order.append("read")
        for _ in range(few):
            queue.put(ONE, lambda: order.append("made"))
        queue.take_some()
        assert order.count("made") == few
        assert order[-1] == "read"
        assert "made " * (READ_AFTER + 1) not in " ".join(order) + " "

    async def test_one_source_and_all_of_them_are_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(turns, "MOST_OF_ONE_SOURCE", 2)
        monkeypatch.setattr(turns, "MOST_WAITING", 3)
        queue = Turns()
        assert [queue.put(ONE, lambda: None) for _ in range(3)] == [True, True, False]
        assert [queue.put(OTHER, lambda: None) for _ in range(2)] == [True, False]
        queue.take_all()
        assert queue.put(ONE, lambda: None)

    async def test_the_sockets_are_read_between_two_steps_of_a_task_and_not_too_often(self) -> None:
        queue, reads, steps = Turns(), list[int](), 1000

        async def work() -> int:
            for _ in range(steps):
                await asyncio.sleep(0)
            return steps

        queue.read_sockets = lambda: reads.append(1)
        assert await asyncio.create_task(Stepwise(work(), queue.between_steps)) == steps
        assert 0 < len(reads) < steps

    async def test_a_task_that_is_cancelled_lets_others_in_too(self) -> None:
        """The look-ups of a flood end together, when their clients have given up."""
        reads = list[int]()
        task = asyncio.create_task(Stepwise(asyncio.sleep(60), lambda: reads.append(1)))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert len(reads) == 2


class TestSourceRate:
    def test_a_second_is_saved_and_then_the_rate_holds(self) -> None:
        rate = SourceRate(8)
        assert [rate.take(ONE, 100.0) for _ in range(9)] == [True] * 8 + [False]
        assert [rate.take(ONE, 100.25) for _ in range(3)] == [True, True, False]
        assert rate.take(OTHER, 100.25)

    def test_zero_is_no_limit(self) -> None:
        rate = SourceRate(0)
        assert all(rate.take(ONE, 1.0) for _ in range(100_000))

    def test_the_table_is_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(turns, "TRACKED", 100)
        rate = SourceRate(1)
        for number in range(1000):
            assert rate.take(number.to_bytes(4, "big"), 1.0)
        assert len(rate) <= 100
