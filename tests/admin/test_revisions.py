"""Which hosts have a revision?"""

from __future__ import annotations

import pytest

from tests.admin.api import Api, E


async def test_hosts_that_have_it_and_those_that_do_not(production: Api) -> None:
    store = production.store
    await store._redis.hset(store._keys.acks("production"), mapping={"h1": 4, "h2": 3, "h3": 1})
    for revision, hosts, behind in ((4, ["h1"], ["h2", "h3"]), (3, ["h1", "h2"], ["h3"]), (1, ["h1", "h2", "h3"], [])):
        shown = await production.get(f"{E}/revisions/{revision}")
        assert shown.body == {
            "environment": "production", "revision": revision, "newest": 4, "hosts": hosts, "behind": behind,
        }  # fmt: skip
        assert "ETag" not in shown.headers


@pytest.mark.parametrize(
    ("revision", "status"), [("5", 404), ("0", 400), ("-1", 400), ("x", 400), ("٤", 400), ("9" * 40, 400)]
)
async def test_a_revision_that_is_not_there(production: Api, revision: str, status: int) -> None:
    assert (await production.get(f"{E}/revisions/{revision}")).status == status


async def test_a_deleted_environment_has_none(production: Api) -> None:
    await production.delete(E)
    assert (await production.get(f"{E}/revisions/1")).problem == "missing"
