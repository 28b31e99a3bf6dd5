"""Held queries: each source has its share of the room, and gets it back when its queries are answered."""

from __future__ import annotations

import pytest

from resolver.counts import QueryCounts
from resolver.net import held
from resolver.net.held import HeldQueries
from resolver.wire.messages import Hold
from tests.waiting import until
from zones.names import EnvironmentId

ONE, OTHER = bytes([127, 0, 0, 2]), bytes([127, 0, 0, 3])
LOADING, PENDING = Hold(), Hold(EnvironmentId("production"))


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held, "MOST_OF_ONE_SOURCE", 3)
    monkeypatch.setattr(held, "MOST_HELD", 5)


def fill(queries: HeldQueries, source: bytes, until_: Hold = LOADING) -> int:
    """Holds as many queries of ``source`` as there is room for; gives how many."""
    return sum(queries.hold(until_, source, lambda _: None) for _ in range(10))


async def test_one_source_and_all_of_them_are_bounded() -> None:
    queries = HeldQueries(QueryCounts())
    assert (fill(queries, ONE), fill(queries, OTHER), fill(queries, b"a third")) == (3, 2, 0)


async def test_what_is_answered_leaves_its_room() -> None:
    queries = HeldQueries(QueryCounts())
    assert (fill(queries, ONE), fill(queries, OTHER)) == (3, 2)
    queries.release(LOADING)
    assert (fill(queries, OTHER), fill(queries, ONE)) == (3, 2)


async def test_what_must_wait_for_something_else_keeps_its_room() -> None:
    queries = HeldQueries(QueryCounts())
    assert all(queries.hold(LOADING, ONE, lambda _: PENDING) for _ in range(3))
    queries.release(LOADING)
    assert fill(queries, ONE) == 0
    queries.release(PENDING)  # it answers none of them: they say again what they wait for
    assert fill(queries, ONE) == 0


async def test_what_has_waited_too_long_leaves_its_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held, "LOADING_HOLD", 0.01)
    queries, given_up = HeldQueries(QueryCounts()), list[bool]()

    def answer(is_last: bool) -> None:
        given_up.append(is_last)

    assert all(queries.hold(LOADING, ONE, answer) for _ in range(3))
    await until(lambda: given_up == [True] * 3)
    assert fill(queries, ONE) == 3
