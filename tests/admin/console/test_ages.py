"""Since when instances are as they are: what has changed is new, what has not is older than the process."""

from __future__ import annotations

import time

import pytest

from admin.console import ages
from admin.console.ages import Ages
from admin.console.state import ConsoleState
from tests.worlds import build, compiled
from zones.edits import Edit, PutInstance, PutRecord, PutService, apply
from zones.model import Environment, RecordSet, State
from zones.names import EnvironmentId

ID = EnvironmentId("production")
FIRST = build(ID, 7, PutService("api"), *(PutInstance("api", f"a{one}", host="h1", attached=True) for one in (1, 2)))


def after(environment: Environment, *edits: Edit) -> Environment:
    return apply(environment, edits, 0)


def since(state: ConsoleState, instance: str) -> float | None:
    state.ages.compare(ID)
    return state.ages.since(ID, "api", instance)


def loaded() -> ConsoleState:
    state = ConsoleState()
    state.publish(compiled(FIRST))
    state.loaded()
    return state


def test_what_was_there_at_the_start_is_older_than_that() -> None:
    assert since(loaded(), "a1") is None


def test_what_has_changed_is_as_old_as_the_change() -> None:
    state, began = loaded(), time.time()
    state.publish(compiled(after(FIRST, PutInstance("api", "a1", State.DRAINING))))
    found = since(state, "a1")
    assert found is not None
    assert began <= found <= time.time()
    assert since(state, "a2") is None


def test_another_change_makes_no_instance_younger() -> None:
    state = loaded()
    second = after(FIRST, PutInstance("api", "a1", State.DRAINING))
    state.publish(compiled(second))
    found = since(state, "a1")
    state.publish(compiled(after(second, PutRecord("db", "A", RecordSet(5, ("10.0.0.1",))))))
    assert since(state, "a1") == found


def test_a_host_that_goes_makes_its_instances_new() -> None:
    state = loaded()
    state.publish(compiled(FIRST, down=["h1"]))
    assert since(state, "a1") is not None


def test_many_changes_are_compared_at_once() -> None:
    state, environment = loaded(), FIRST
    for number in range(3, 20):
        environment = after(environment, PutInstance("api", f"a{number}"))
        state.publish(compiled(environment))
    assert since(state, "a3") == since(state, "a19")
    assert since(state, "a1") is None


def test_an_environment_that_is_new_has_new_instances_and_one_that_is_deleted_none() -> None:
    state = ConsoleState()
    state.loaded()
    state.publish(compiled(FIRST))
    assert since(state, "a1") is not None
    state.withdraw(ID)
    assert since(state, "a1") is None


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ages, "MOST_KEPT", 3)
    kept = Ages()
    for number in range(3):
        environment = build(f"e{number}", number + 1, PutService("api"))
        more = after(environment, PutInstance("api", "a1"), PutInstance("api", "a2"))
        first, second = compiled(environment), compiled(more)
        kept.note((first.environment, first.away), (second.environment, second.away))
        kept.compare(environment.id)
    assert kept.since(EnvironmentId("e2"), "api", "a1") is not None
    assert kept.since(EnvironmentId("e0"), "api", "a1") is None
