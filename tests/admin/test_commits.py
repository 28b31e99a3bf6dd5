"""Writers at the same time: none is lost, and whoever demanded a revision is told."""

from __future__ import annotations

import asyncio

import pytest

from admin.commits import Committer
from admin.counts import ApiCounts
from admin.http.preconditions import Preconditions
from store import writer as writing
from store.environments import EnvironmentStore
from store.errors import NetworkTaken, RevisionConflict
from store.store import Store
from tests.admin.api import Api, E
from zones.addresses import Platform
from zones.edits import PutService
from zones.model import Environment
from zones.names import EnvironmentId

WRITERS = 50
PRODUCTION = EnvironmentId("production")


async def test_fifty_writers_on_two_processes_and_no_lost_update(store: Store) -> None:
    async with Api(store) as one, Api(store) as other:
        await one.put(E, {})
        writes = [(one, other)[n % 2].put(f"{E}/services/s{n}", {}) for n in range(WRITERS)]
        answers = await asyncio.gather(*writes)
        shown = (await one.get(E)).body
    assert {answer.status for answer in answers} == {201}
    assert sorted(answer.body["revision"] for answer in answers) == list(range(2, WRITERS + 2))
    assert {service["name"] for service in shown["services"]} == {f"s{n}" for n in range(WRITERS)}
    assert len({service["subnet"] for service in shown["services"]}) == WRITERS
    assert one.counts.commits + other.counts.commits == WRITERS + 1


async def test_fifty_writers_of_one_revision_and_one_wins(production: Api) -> None:
    condition = {"If-Match": '"4"'}
    writes = [production.put(f"{E}/services/s{n}", {}, headers=condition) for n in range(WRITERS)]
    statuses = [answer.status for answer in await asyncio.gather(*writes)]
    assert (statuses.count(201), statuses.count(412)) == (1, WRITERS - 1)
    assert (await production.get(E)).body["revision"] == 5


async def test_fifty_creators_and_one_environment(store: Store) -> None:
    async with Api(store) as one, Api(store) as other:
        answers = await asyncio.gather(*((one, other)[n % 2].put(E, {}) for n in range(WRITERS)))
    assert sorted(answer.status for answer in answers) == [200] * (WRITERS - 1) + [201]
    assert len({answer.body["network"] for answer in answers}) == 1


async def test_a_conflict_without_end_is_told(production: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    async def conflict(_self: EnvironmentStore, environment: Environment, expected: int) -> None:
        raise RevisionConflict(environment.id, expected, expected + 1)

    monkeypatch.setattr(EnvironmentStore, "commit", conflict)
    monkeypatch.setattr(writing, "PAUSE", 0)
    refused = await production.put(f"{E}/services/web", {})
    assert (refused.status, refused.problem) == (409, "busy")
    assert production.counts.conflicts == writing.MAX_ATTEMPTS


async def test_a_network_that_is_taken_is_drawn_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    draws = iter([6, 6, 7])
    monkeypatch.setattr("admin.commits.secrets.randbelow", lambda _bound: next(draws))
    committer = Committer(store, Platform(), ApiCounts())
    first = await committer.put_environment(PRODUCTION, [], 0, Preconditions())
    second = await committer.put_environment(EnvironmentId("staging"), [], 0, Preconditions())
    assert (str(first.after.network), str(second.after.network)) == ("fd12:0:7::/48", "fd12:0:8::/48")


async def test_no_network_at_all(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("admin.commits.secrets.randbelow", lambda _bound: 6)
    monkeypatch.setattr(writing, "PAUSE", 0)
    committer = Committer(store, Platform(), ApiCounts())
    await committer.put_environment(PRODUCTION, [], 0, Preconditions())
    with pytest.raises(NetworkTaken):
        await committer.put_environment(EnvironmentId("staging"), [], 0, Preconditions())


async def test_turns_are_forgotten_when_nobody_waits(store: Store) -> None:
    committer = Committer(store, Platform(), ApiCounts())
    await committer.put_environment(PRODUCTION, [], 0, Preconditions())
    await asyncio.gather(*(committer.edit(PRODUCTION, [PutService(f"s{n}")], 0, Preconditions()) for n in range(5)))
    assert not committer._writer._turns
