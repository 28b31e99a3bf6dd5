"""The record of a workload: what the control plane is asked for it, and what its refusals become.

Whose an instance is, where it is found again and who may change it, the control plane decides: see `tests/admin/hosts`.
"""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from agent.attach.errors import as_agent_errors
from agent.attach.record import Fate, InstanceRecords
from agent.control_plane.connection import ControlPlane
from agent.errors import AgentError, BadRequest, NotNow, NotThere, Refused
from tests.agent.control_plane.plane import Plane
from tests.agent.worlds import ATTACHMENT
from watcher.session import protocol
from watcher.session.protocol import (
    CONNECTED,
    AskFate,
    Committed,
    Connected,
    Done,
    Failure,
    PutInstance,
    Removed,
    RemoveInstance,
    Request,
    SetState,
)
from zones.model import State
from zones.names import EnvironmentId

E1 = EnvironmentId("e1")
ADDRESS = str(ATTACHMENT.address)
THERE = Connected(ADDRESS, ("api", "a2"))


@pytest.fixture
def records(control: ControlPlane) -> InstanceRecords:
    return InstanceRecords(control)


def asked(plane: Plane) -> Request:
    """What was asked last."""
    return plane.requests[-1]


async def test_a_record_is_put_with_what_it_is_found_by(plane: Plane, records: InstanceRecords) -> None:
    plane.answers = lambda request: Committed(request.number, 4, "web", ADDRESS, enabled=True)
    committed = await records.put(replace(ATTACHMENT, region="eu"), State.STARTING)
    assert (committed.revision, committed.service, committed.address) == (4, "web", ADDRESS)
    assert asked(plane) == PutInstance(2, E1, "api", "a1", State.STARTING, ADDRESS, "eu")
    await records.put(replace(ATTACHMENT, address=None), State.READY)
    assert asked(plane) == PutInstance(3, E1, "api", "a1", State.READY)


async def test_a_workload_that_is_connected_already_is_put_with_its_address(
    plane: Plane, records: InstanceRecords
) -> None:
    plane.answers = lambda request: Committed(request.number, 4, "api", ADDRESS, enabled=True)
    await records.put(ATTACHMENT, State.READY, THERE)
    assert asked(plane) == PutInstance(2, E1, "api", "a1", State.READY, ADDRESS, connected=THERE)
    assert records.takes_connected


async def test_a_control_plane_of_an_earlier_release_is_not_told_what_it_does_not_know(
    plane: Plane, records: InstanceRecords
) -> None:
    """It would commit the instance as ready wherever it is. It may have replaced a later one just now."""
    plane.version = CONNECTED - 1
    await records.control_plane.reconnect("a test")
    await records.set_state(ATTACHMENT, State.READY)
    assert not records.takes_connected
    plane.answers = lambda request: Committed(request.number, 4, "api", ADDRESS, enabled=True)
    committed = await records.put(ATTACHMENT, State.READY, THERE)
    assert asked(plane) == PutInstance(3, E1, "api", "a1", State.STARTING, ADDRESS)
    assert committed.is_starting


async def test_a_state_is_set_and_an_absent_instance_is_withdrawn(plane: Plane, records: InstanceRecords) -> None:
    await records.set_state(ATTACHMENT, State.DRAINING)
    assert asked(plane) == SetState(2, E1, "api", "a1", State.DRAINING, address=ADDRESS)
    plane.answers = lambda request: Done(request.number, changed=False)
    assert not await records.withdraw(E1, "api", "a1")
    wanted = SetState(3, E1, "api", "a1", State.STARTING, only_from=State.READY, attached=False)
    assert asked(plane) == wanted
    await records.mark_attached(ATTACHMENT, State.READY)
    assert asked(plane) == SetState(4, E1, "api", "a1", State.READY, address=ADDRESS, attached=True)


async def test_a_record_is_removed(plane: Plane, records: InstanceRecords) -> None:
    plane.answers = lambda request: Removed(request.number, 5)
    assert await records.remove(ATTACHMENT) == 5
    assert asked(plane) == RemoveInstance(2, E1, "api", "a1", ADDRESS)
    plane.answers = lambda request: Removed(request.number)
    assert await records.remove(ATTACHMENT) is None


async def test_where_a_host_may_not_place_it_has_nothing_to_remove(plane: Plane, records: InstanceRecords) -> None:
    plane.answers = lambda request: Failure(request.number, "refused", "the host may not place instances there")
    assert await records.remove(ATTACHMENT) is None


@pytest.mark.parametrize(("said", "fate"), [("lost", Fate.LOST), ("removed", Fate.REMOVED), ("new", Fate.UNKNOWN)])
async def test_the_fate_of_a_record(plane: Plane, records: InstanceRecords, said: str, fate: Fate) -> None:
    plane.answers = lambda request: protocol.Fate(request.number, said)
    assert await records.fate(replace(ATTACHMENT, revision=7)) is fate
    assert asked(plane) == AskFate(2, E1, "api", "a1", 7, ADDRESS)


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("unavailable", NotNow), ("lease", NotNow), ("conflict", NotNow), ("missing", NotThere),
        ("invalid", BadRequest), ("refused", Refused), ("taken", Refused),
    ],
)  # fmt: skip
async def test_a_refusal_says_what_the_caller_should_do(
    plane: Plane, records: InstanceRecords, kind: str, error: type[AgentError]
) -> None:
    plane.answers = lambda request: Failure(request.number, kind, "it is attached to host h2, which lives")
    with pytest.raises(error, match="attached to host h2, which lives"), as_agent_errors():
        await records.put(ATTACHMENT, State.STARTING)
