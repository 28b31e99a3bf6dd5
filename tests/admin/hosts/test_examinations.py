"""What a control plane asks the agent of a host: each question waits for its own facts."""

from __future__ import annotations

import asyncio

import pytest

from admin.hosts.examinations import Examinations
from watcher.session.protocol import Examine, Examined, decode_message


async def test_each_question_gets_its_own_facts() -> None:
    examinations, sent = Examinations(), asyncio.Queue[bytes]()
    asked = [asyncio.create_task(examinations.ask(f"question {number}", sent.put)) for number in range(2)]
    for message in reversed([await sent.get() for _ in asked]):
        one = decode_message(message)
        assert isinstance(one, Examine)
        examinations.take(Examined(7, one.ask, f"facts for {one.question}"))
    assert await asyncio.gather(*asked) == ["facts for question 0", "facts for question 1"]


async def test_an_answer_that_comes_too_late_or_to_nothing_is_passed_over() -> None:
    examinations, sent = Examinations(), list[bytes]()

    async def send(message: bytes) -> None:
        sent.append(message)

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await examinations.ask("question", send)
    late = decode_message(sent[0])
    assert isinstance(late, Examine)
    examinations.take(Examined(1, late.ask, "late"))
    examinations.take(Examined(2, 99, "to nothing"))
