"""The last attaches, with the time of each step."""

from __future__ import annotations

import pytest

from agent.attach.attachment import Attachment, Phase
from agent.attach.history import KEPT, AttachHistory
from agent.attach.step_times import StepTimes
from zones.names import EnvironmentId


def attachment(instance: str, environment: str = "production") -> Attachment:
    return Attachment(EnvironmentId(environment), "api", instance, "/run/netns/x", "railnet0", Phase.ATTACHED)


def test_an_attach_has_its_steps_and_the_hosts_that_were_waited_for_in_vain() -> None:
    history, times = AttachHistory(wall_clock=lambda: 1000.0), StepTimes()
    with times.timed("record"):
        pass
    with times.timed("path"):
        times.note_lagging("path", {"h3", "h2"})
    history.note(attachment("a1"), times)
    (one,) = history.newest(10)
    assert [step.step for step in one.steps] == ["record", "path"]
    assert [step.lagging for step in one.steps] == [(), ("h2", "h3")]
    assert one.began <= 1000.0
    assert (one.problem, one.failed) == ("", "")


def test_one_that_failed_says_where_and_why() -> None:
    history, times = AttachHistory(), StepTimes()
    with pytest.raises(RuntimeError), times.timed("connect"):
        raise RuntimeError
    history.note(attachment("a1"), times, "no veth")
    (one,) = history.newest(10)
    assert (one.problem, one.failed, one.steps[0].milliseconds) == ("no veth", "connect", None)


def test_the_newest_come_first_and_few_are_kept() -> None:
    history = AttachHistory()
    for number in range(KEPT + 5):
        history.note(attachment(f"a{number}", "staging" if number % 2 else "production"), StepTimes())
    assert len(history.newest(1000)) == KEPT
    assert [one.instance for one in history.newest(2)] == [f"a{KEPT + 4}", f"a{KEPT + 3}"]
    assert {one.environment for one in history.newest(1000, EnvironmentId("staging"))} == {"staging"}
