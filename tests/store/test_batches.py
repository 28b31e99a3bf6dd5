"""What is asked at about the same time is asked once, and each has its own reply."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from store.batches import Batches
from store.errors import Refused, Unavailable
from tests.waiting import until

SHORTLY, NEVER = 0.001, 3600.0  # seconds


@dataclass
class Asked:
    """A store that notes what it is asked, and refuses what is odd, or fails."""

    batches: list[list[int]] = field(default_factory=list)
    failure: Exception | None = None
    may_reply: asyncio.Event = field(default_factory=asyncio.Event)

    async def ask(self, numbers: Sequence[int]) -> list[str]:
        self.batches.append(list(numbers))
        await self.may_reply.wait()
        if self.failure:
            raise self.failure
        if any(number % 2 for number in numbers):
            raise Refused("odd")
        return [str(number) for number in numbers]


@pytest.fixture
def asked() -> Asked:
    asked = Asked()
    asked.may_reply.set()
    return asked


async def test_what_comes_together_is_asked_at_once_and_what_comes_later_is_not_lost(asked: Asked) -> None:
    batches = Batches(asked.ask, seconds=SHORTLY, most=10)
    assert await asyncio.gather(*map(batches.reply, (2, 4, 4))) == ["2", "4", "4"]
    assert await batches.reply(6) == "6"
    assert asked.batches == [[2, 4, 4], [6]]


async def test_a_full_batch_waits_for_nothing(asked: Asked) -> None:
    batches = Batches(asked.ask, seconds=NEVER, most=2)
    assert await asyncio.gather(*map(batches.reply, (2, 4, 6, 8))) == ["2", "4", "6", "8"]
    assert asked.batches == [[2, 4], [6, 8]]


async def test_a_batch_does_not_wait_for_the_one_before_it(asked: Asked) -> None:
    batches = Batches(asked.ask, seconds=NEVER, most=1)
    asked.may_reply.clear()
    replies = [asyncio.create_task(batches.reply(number)) for number in (2, 4)]
    await until(lambda: len(asked.batches) == 2)
    asked.may_reply.set()
    assert await asyncio.gather(*replies) == ["2", "4"]


async def test_what_is_refused_is_asked_for_alone(asked: Asked) -> None:
    batches = Batches(asked.ask, seconds=SHORTLY, most=10)
    outcomes = await asyncio.gather(*map(batches.reply, (2, 3, 4)), return_exceptions=True)
    assert [str(outcome) for outcome in outcomes] == ["2", "odd", "4"]
    assert asked.batches == [[2, 3, 4], [2], [3], [4]]


@pytest.mark.parametrize("failure", [Unavailable("gone"), RuntimeError("a fault of ours")], ids=["gone", "fault"])
async def test_where_it_fails_all_hear_of_it_and_nothing_is_asked_again(asked: Asked, failure: Exception) -> None:
    batches, asked.failure = Batches(asked.ask, seconds=SHORTLY, most=10), failure
    outcomes = await asyncio.gather(*map(batches.reply, (2, 4)), return_exceptions=True)
    assert outcomes == [failure] * 2
    assert len(asked.batches) == 1


async def test_nothing_is_asked_for_those_who_have_gone(asked: Asked) -> None:
    batches = Batches(asked.ask, seconds=SHORTLY, most=10)
    gone, waits = (asyncio.create_task(batches.reply(number)) for number in (2, 4))
    await asyncio.sleep(0)
    gone.cancel()
    assert await waits == "4"
    assert asked.batches == [[4]]
