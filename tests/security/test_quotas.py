"""What one environment may hold is bounded; a refusal names the quota, its limit and what there is."""

from __future__ import annotations

from typing import Any

import pytest

from store.quotas import merged
from store.store import Store
from tests.admin.api import Api, E, make_host, make_key
from tests.worlds import lease_of
from zones.quota import KINDS, Quota

PUTS: dict[str, tuple[str, Any]] = {
    "services": ("services/s{}", {}),
    "instances": ("services/api/instances/i{}", {}),
    "records": ("records/r{}/TXT", {"ttl": 60, "values": ["x"]}),
    "peers": ("peers/p{}", {"gateway": "h1"}),
}


@pytest.mark.parametrize("kind", [*PUTS, "tokens"])
async def test_one_more_is_refused_and_less_is_always_taken(production: Api, kind: str) -> None:
    await production.store.hosts.register(make_host(1))
    await production.store.leases.renew(lease_of("h1"), 60_000)

    async def put(number: int) -> Any:
        if kind == "tokens":
            return await production.post(f"{E}/tokens", {"name": f"t{number}"})
        path, body = PUTS[kind]
        extra = {"public_key": make_key(number + 100)} if kind == "peers" else {}
        return await production.put(f"{E}/{path.format(number)}", {**body, **extra})

    had = (await production.get(f"{E}/quota")).body[kind]["used"]
    assert (await production.put(f"{E}/quota", {kind: had + 2})).body[kind] == {
        "limit": had + 2, "used": had, "is_default": False,
    }  # fmt: skip
    made = [await put(number) for number in (1, 2)]
    assert [answer.status for answer in made] == [201, 201]
    refused = await put(3)
    assert (refused.status, refused.problem) == (409, "quota-exceeded")
    assert (refused.body["quota"], refused.body["limit"], refused.body["present"]) == (kind, had + 2, had + 2)
    assert str(had + 2) in refused.body["detail"]
    # Lowered below what there is: nothing is lost, other changes are made, and what is deleted stays deleted.
    assert (await production.put(f"{E}/quota", {kind: 0})).body[kind]["used"] == had + 2
    assert (await put(3)).problem == "quota-exceeded"
    assert (await production.put(f"{E}/services/api", {"ports": []})).status == 200
    gone = f"tokens/{made[0].body['id']}" if kind == "tokens" else PUTS[kind][0].format(1)
    assert (await production.delete(f"{E}/{gone}")).status == 204
    # The default again.
    assert (await production.put(f"{E}/quota", {kind: None})).body[kind]["is_default"]
    assert (await put(4)).status == 201


async def test_the_document(production: Api) -> None:
    size = (await production.get(f"{E}/quota")).body["document"]["used"]
    assert size > 200
    assert (await production.put(f"{E}/quota", {"document": size + 100})).status == 200
    refused = await production.put(f"{E}/records/big/TXT", {"ttl": 60, "values": ["x" * 200]})
    assert (refused.status, refused.body["quota"], refused.body["limit"]) == (409, "document", size + 100)
    assert refused.body["present"] > size + 200
    assert (await production.put(f"{E}/quota", {"document": 1})).status == 200
    assert (await production.delete(f"{E}/records/db/CNAME")).status == 204


async def test_a_batch_is_refused_as_a_whole(production: Api) -> None:
    await production.put(f"{E}/quota", {"services": 3})
    edits = [{"op": "put-service", "name": f"s{number}"} for number in range(5)]
    refused = await production.post(f"{E}/batch", {"edits": edits})
    assert (refused.status, refused.problem) == (409, "quota-exceeded")
    assert (refused.body["quota"], refused.body["limit"], refused.body["present"]) == ("services", 3, 1)
    assert (await production.get(f"{E}/quota")).body["services"]["used"] == 1


async def test_a_tenant_sees_its_quota_and_does_not_set_it(production: Api) -> None:
    tenant = await production.make_token()
    shown = await production.get(f"{E}/quota", token=tenant)
    assert (shown.status, list(shown.body)) == (200, list(KINDS))
    assert (await production.put(f"{E}/quota", {"services": 10**6}, token=tenant)).status == 403


async def test_a_quota_ends_with_its_environment(production: Api) -> None:
    await production.put(f"{E}/quota", {"services": 1})
    assert (await production.delete(E)).status == 204
    assert (await production.put(E, {})).status == 201
    assert (await production.get(f"{E}/quota")).body["services"]["is_default"]


@pytest.mark.parametrize("body", [{"cats": 1}, {"peers": -1}, {"peers": "5"}, {"peers": 1.5}])
async def test_what_is_no_quota(production: Api, body: Any) -> None:
    assert (await production.put(f"{E}/quota", body)).status == 400


async def test_the_defaults_are_those_of_the_control_plane(store: Store) -> None:
    async with Api(store, quota=Quota(services=1)) as api:
        await api.put(E, {})
        assert (await api.put(f"{E}/services/one", {})).status == 201
        refused = await api.put(f"{E}/services/two", {})
        assert (refused.body["quota"], refused.body["limit"]) == ("services", 1)
    assert merged(Quota(services=1), {"peers": 5}) == Quota(services=1, peers=5)
