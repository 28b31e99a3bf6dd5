"""How long commits take to reach hosts."""

from __future__ import annotations

from admin.hosts.propagation import LONGEST, MOST_OF_ONE, Propagation
from tests.admin.api import Api, E
from tests.admin.hosts.agents import ControlPlane, LightAgent
from tests.admin.hosts.conftest import Enrol
from tests.waiting import until


def test_a_commit_has_arrived_when_the_last_host_has_acknowledged_it_or_a_later_one() -> None:
    measured = Propagation()
    measured.published("production", 2, {"h1", "h2"}, 10.0)
    measured.acknowledged("h1", {"production": 1}, 10.5)  # an earlier one
    measured.acknowledged("h1", {"production": 2}, 10.1)
    measured.acknowledged("h1", {"production": 2}, 10.2)  # again
    assert (measured.each.count, measured.all.count) == (1, 0)
    measured.published("production", 3, {"h1", "h2"}, 11.0)
    measured.acknowledged("h2", {"production": 3, "staging": 9}, 12.0)
    assert (measured.each.count, measured.all.count) == (3, 1)
    assert round(measured.all.total, 3) == 2.0
    assert measured.recent("production").count == 1
    assert measured.recent("staging").count == 0


def test_what_a_host_never_acknowledges_is_forgotten() -> None:
    measured = Propagation()
    measured.published("production", 1, {"h1", "gone"}, 0.0)
    measured.acknowledged("h1", {"production": 1}, LONGEST + 1)
    assert (measured.overdue, dict(measured._pending)) == (1, {})
    for revision in range(MOST_OF_ONE + 3):
        measured.published("production", revision, {"gone"}, 0.0)
    assert measured.overdue == 4
    measured.forget("production")
    assert not measured._pending


async def test_a_commit_is_measured_by_the_sessions_that_are_here(
    production: Api, plane: ControlPlane, enrolled: Enrol
) -> None:
    measured = plane.service.state.propagation
    async with LightAgent(plane.url, await enrolled("h1"), acknowledges=True) as agent:
        await agent.join("192.0.2.1:51820")
        assert (await production.put(f"{E}/services/api/instances/a1", {"host": "h1"})).status == 200
        await until(lambda: measured.recent("production").count == 1)
        assert measured.each.count == measured.all.count == 1
