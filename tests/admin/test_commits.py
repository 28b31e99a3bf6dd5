"""Writers at the same time: no write is lost, and a writer that demanded a revision gets 412."""

from __future__ import annotations

import asyncio
import secrets

import pytest

from admin.http.limits import Limits
from store import store as store_module
from store import writer as writing
from store.environments import EnvironmentStore
from store.errors import RevisionConflict
from store.store import Store
from tests.admin.api import Api, E
from tests.store.servers import opened
from tests.waiting import scaled
from zones.model import Environment

WRITERS = 50
CLIENTS = 500


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
    assert 2 < one.counts.commits + other.counts.commits <= WRITERS + 1, "those that wait are committed together"


async def test_fifty_writers_of_one_revision_and_one_wins(production: Api) -> None:
    condition = {"If-Match": (await production.get(E)).headers["ETag"]}
    writes = [production.put(f"{E}/services/s{n}", {}, headers=condition) for n in range(WRITERS)]
    statuses = [answer.status for answer in await asyncio.gather(*writes)]
    assert (statuses.count(201), statuses.count(412)) == (1, WRITERS - 1)
    assert (await production.get(E)).body["revision"] == 5


async def test_fifty_creators_and_one_environment(store: Store) -> None:
    async with Api(store) as one, Api(store) as other:
        answers = await asyncio.gather(*((one, other)[n % 2].put(E, {}) for n in range(WRITERS)))
    assert sorted(answer.status for answer in answers) == [200] * (WRITERS - 1) + [201]
    assert len({answer.body["network"] for answer in answers}) == 1


async def test_a_conflict_in_every_attempt_is_reported(production: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    async def conflict(_self: EnvironmentStore, environment: Environment, expected: int, *_: object) -> None:
        raise RevisionConflict(environment.id, expected, expected + 1)

    monkeypatch.setattr(EnvironmentStore, "commit", conflict)
    monkeypatch.setattr(writing, "PAUSE", 0)
    refused = await production.put(f"{E}/services/web", {})
    assert (refused.status, refused.problem) == (409, "busy")
    assert production.counts.conflicts == writing.MAX_ATTEMPTS


async def test_a_network_that_is_taken_is_drawn_again(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    draws = iter([6, 6, 7])
    monkeypatch.setattr("admin.commits.secrets.randbelow", lambda _bound: next(draws))
    first, second = await api.put(E, {}), await api.put("/v1/environments/staging", {})
    assert (first.body["network"], second.body["network"]) == ("fd12:0:7::/48", "fd12:0:8::/48")


async def test_no_network_is_free(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("admin.commits.secrets.randbelow", lambda _bound: 6)
    monkeypatch.setattr(writing, "PAUSE", 0)
    await api.put(E, {})
    refused = await api.put("/v1/environments/staging", {})
    assert (refused.status, refused.problem) == (409, "busy")
    assert "fd12:0:7::/48" in refused.body["detail"]
    assert (await api.get("/v1/environments/staging")).status == 404
    assert api.counts.conflicts == writing.MAX_ATTEMPTS


async def test_five_hundred_clients_at_once_and_none_is_refused(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Clients and server share one event loop here, in asyncio's debug mode: it may be late by seconds.
    monkeypatch.setattr(store_module, "COMMAND_TIMEOUT", scaled(30))
    prefix = f"test-{secrets.token_hex(6)}:"
    async with opened(store_url, prefix) as store, Api(store, Limits(request_seconds=scaled(60))) as api:
        await api.put(E, {})
        answers = await asyncio.gather(*(api.put(f"{E}/services/s{n}", {}) for n in range(CLIENTS)))
        shown = (await api.get(E)).body
    assert {answer.status for answer in answers} == {201}
    assert sorted(answer.body["revision"] for answer in answers) == list(range(2, CLIENTS + 2))
    assert len(shown["services"]) == CLIENTS
    assert api.counts.commits < CLIENTS / 5, "they are committed together"


async def test_the_queue_of_an_environment_is_dropped_when_no_write_waits(api: Api) -> None:
    await api.put(E, {})
    answers = await asyncio.gather(*(api.put(f"{E}/services/s{n}", {}) for n in range(5)))
    assert {answer.status for answer in answers} == {201}
    assert not api.context.writer._waiting
