"""Which instances are stuck in state starting."""

from __future__ import annotations

from tests import worlds
from watcher.starting import STUCK, Starting
from zones.edits import DeleteInstance, PutInstance, apply
from zones.model import State

BEFORE, AFTER = 100.0 + STUCK, 100.1 + STUCK


def test_an_instance_is_stuck_after_a_minute_and_however_often_its_environment_changes() -> None:
    starting, environment = Starting(), worlds.production()  # in which one instance is starting
    starting.note(environment, 100.0)
    starting.note(worlds.toggled(environment), 150.0)
    assert starting.stuck(BEFORE) == {}
    assert starting.stuck(AFTER) == {environment.id: 1}
    starting.note(apply(environment, [PutInstance("api", "a9", state=State.STARTING)], worlds.NOW), AFTER)
    assert starting.stuck(AFTER) == {environment.id: 1}
    assert starting.stuck(AFTER + STUCK + 1) == {environment.id: 2}


def test_one_that_is_ready_gone_or_not_served_is_not_stuck() -> None:
    environment = worlds.production()
    for edit in (PutInstance("api", "a3", state=State.READY), DeleteInstance("api", "a3")):
        starting = Starting()
        starting.note(environment, 100.0)
        starting.note(apply(environment, [edit], worlds.NOW), AFTER)
        assert starting.stuck(AFTER) == {}
    starting = Starting()
    starting.note(environment, 100.0)
    starting.forget(environment.id)
    assert starting.stuck(AFTER) == {}
