"""The guard: what is held is shown, the root token confirms it, and a write that deletes very much has to say so."""

from __future__ import annotations

import pytest

from admin.http.context import HeldView
from store.check import check
from tests.admin.api import Api, E
from tests.waiting import until
from tests.watcher.harness import following

GUARD = "/v1/guard"
CONFIRMED = "?confirm=withdrawal"


async def test_shown_and_confirmed(api: Api) -> None:
    assert (await api.get(GUARD)).body == {"epoch": None, "confirmation": None, "held": None}
    confirmed = await api.post(f"{GUARD}/confirm", {})
    assert confirmed.status == 200
    confirmation = await api.store.guard.read()
    assert confirmation
    assert (confirmed.body["confirmation"], confirmed.body["held"]) == (confirmation.change, None)
    assert confirmed.body["epoch"]
    assert (await api.get(GUARD)).body == confirmed.body


async def test_what_the_watcher_of_the_process_holds_is_shown(production: Api) -> None:
    held = HeldView("environments", ("a", "b"), "they have vanished", 60.5)
    async with Api(production.store, held=lambda: [held]) as api:
        for answer in (await api.get(GUARD), await api.post(f"{GUARD}/confirm", {})):
            [shown] = answer.body["held"]
            assert shown == {
                "kind": "environments", "names": ["a", "b"], "reason": "they have vanished", "seconds": 60.5,
            }  # fmt: skip


async def test_what_is_confirmed_is_not_brought_back_by_a_repair(production: Api) -> None:
    store, keys = production.store, production.store.connection.keys
    assert (await production.put("/v1/environments/staging", {})).status == 201
    async with store.connection.client() as redis:
        await redis.hdel(keys.environments, "production")
        assert [finding.what for finding in await check(store)] == ["environment production"]
        assert (await production.post(f"{GUARD}/confirm", {})).status == 200
        assert await check(store, repair=True) == []
        assert (await production.get(E)).status == 404
        assert (await production.get("/v1/environments/staging")).status == 200
        assert await redis.exists(keys.aside("production")), "what was removed is kept for a week"
    again = await production.put(E, {})
    assert (again.status, again.revision) == (201, 6)


async def test_the_token_of_an_environment_confirms_nothing(production: Api) -> None:
    token = (await production.post(f"{E}/tokens", {"name": "deploys"})).body["token"]
    for answer in (
        await production.get(GUARD, token=token),
        await production.post(f"{GUARD}/confirm", {}, token=token),
    ):
        assert answer.status == 403
    assert await production.store.guard.read() is None


async def fill(api: Api, number: int) -> None:
    edits = [{"op": "put-instance", "service": "api", "id": f"i{one}"} for one in range(number)]
    assert (await api.post(f"{E}/batch", {"edits": edits})).status == 200


async def test_a_write_that_deletes_most_names_is_made_when_it_says_so(production: Api) -> None:
    await fill(production, 9)
    path = f"{E}/services/api"
    refused = await production.delete(path)
    assert (refused.status, refused.problem) == (409, "mass-withdrawal")
    assert refused.body["detail"] == (
        "it deletes 11 of the 12 names of 'production': if that is meant, send it again with ?confirm=withdrawal"
    )
    batch = {"edits": [{"op": "delete-service", "name": "api"}]}
    assert (await production.post(f"{E}/batch", batch)).problem == "mass-withdrawal"
    renamed = {"rename": "web", "overlap_seconds": 0}
    assert (await production.put(path, renamed)).problem == "mass-withdrawal"
    assert len((await production.get(path)).body["instances"]) == 10
    async with following(production.store) as (watcher, recorder):
        assert (await production.delete(path + CONFIRMED)).status == 204
        await until(lambda: [zone.environment.services for zone in recorder.zones.values()] == [{}])
        assert not watcher.guard.holds, "what a client confirms is confirmed to all readers"


@pytest.mark.parametrize("query", ["?confirm=yes", "?confirm", "?sure=1"])
async def test_another_confirmation_is_none(production: Api, query: str) -> None:
    assert (await production.delete(f"{E}/services/api{query}")).status == 400


async def test_a_whole_environment_and_few_names_need_no_confirmation(production: Api) -> None:
    await fill(production, 7)
    assert (await production.delete(f"{E}/services/api")).status == 204
    await production.put(f"{E}/services/api", {})
    await fill(production, 50)
    assert (await production.delete(E)).status == 204
