"""The times of an attach's steps."""

from __future__ import annotations

import pytest

from agent.attach.step_times import StepTimes


def test_steps_keep_their_order_and_the_total_is_by_the_clock() -> None:
    times = StepTimes()
    with times.timed("record"):
        pass
    with times.timed("connect"):
        pass
    taken = times.with_total()
    assert list(taken) == ["record", "connect", "total"]
    assert taken["total"] >= max(taken["record"], taken["connect"])


def test_a_step_that_raises_is_left_out() -> None:
    times = StepTimes()
    with pytest.raises(RuntimeError), times.timed("record"):
        raise RuntimeError
    assert list(times.with_total()) == ["total"]
    assert (list(times.begins), times.failed) == (["record"], "record")
