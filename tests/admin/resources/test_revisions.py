"""Revisions: which hosts have one."""

from __future__ import annotations

import pytest

from tests.admin.api import Api, E, make_key
from tests.worlds import lease_of


async def test_hosts_that_have_the_revision_are_behind_or_are_away(hosted: Api) -> None:
    # h2 has an instance, h1 is a gateway, and h4, which has died, has an instance as well.
    await hosted.put(f"{E}/peers/laptop", {"public_key": make_key(0xA1), "gateway": "h1"})
    await hosted.put(f"{E}/services/api/instances/a4", {"host": "h4"})
    for host, revision in (("h1", 7), ("h2", 6), ("h3", 7)):  # h3 has no member, so it does not count
        await hosted.store.acks.acknowledge(lease_of(host), {"production": revision})
    for revision, hosts, behind, away in (
        (7, ["h1"], ["h2"], ["h4"]),
        (6, ["h1", "h2"], [], ["h4"]),
        (1, ["h1", "h2"], [], ["h4"]),
    ):
        shown = await hosted.get(f"{E}/revisions/{revision}")
        assert shown.body == {
            "environment": "production", "revision": revision, "newest": 7, "hosts": hosts, "behind": behind,
            "away": away,
        }  # fmt: skip
        assert "ETag" not in shown.headers


@pytest.mark.parametrize(
    ("revision", "status"), [("5", 404), ("0", 400), ("-1", 400), ("x", 400), ("٤", 400), ("9" * 40, 400)]
)
async def test_an_unknown_revision(production: Api, revision: str, status: int) -> None:
    assert (await production.get(f"{E}/revisions/{revision}")).status == status


async def test_a_deleted_environment_has_none(production: Api) -> None:
    await production.delete(E)
    assert (await production.get(f"{E}/revisions/1")).problem == "missing"
