"""Services: made, changed, renamed, deleted."""

from __future__ import annotations

import secrets
import time
from datetime import datetime
from typing import Any

import pytest

from store.aside import LARGE_INSTANCES
from store.store import Store
from support.clock import MOST_SKEW
from tests.admin.api import PORT, Api, E


async def test_created_as_the_design_shows(api: Api) -> None:
    network = (await api.put(E, {})).body["network"]
    made = await api.put(f"{E}/services/api", {"ports": [PORT]})
    assert (made.status, made.revision) == (201, 2)
    assert made.body == {
        "name": "api",
        "subnet": network.replace("::/48", ":1::/64"),
        "ports": [PORT],
        "former_names": [],
        "instances": [],
        "revision": 2,
    }


async def test_what_is_left_out_stays(production: Api) -> None:
    for body, ports, revision in (({}, [PORT], 4), ({"ports": []}, [], 5), ({}, [], 5)):
        changed = await production.put(f"{E}/services/api", body)
        assert (changed.status, changed.body["ports"], changed.body["revision"]) == (200, ports, revision)
        assert len(changed.body["instances"]) == 1


@pytest.mark.parametrize("word", ["rename", "name"])  # `name` is the former spelling
async def test_renamed_the_old_name_goes_on_for_the_overlap(production: Api, word: str) -> None:
    before, began = (await production.get(f"{E}/services/api")).body, time.time()
    renamed = await production.put(f"{E}/services/api", {word: "web", "overlap_seconds": 600})
    assert (renamed.status, renamed.body["name"]) == (200, "web")
    assert (renamed.body["subnet"], renamed.body["instances"]) == (before["subnet"], before["instances"])
    (former,) = renamed.body["former_names"]
    assert former["name"] == "api"
    # By the store's time, which is known as exactly as its answer was fast.
    assert began - MOST_SKEW <= datetime.fromisoformat(former["until"]).timestamp() - 600 <= time.time() + MOST_SKEW
    assert (await production.get(f"{E}/services/api")).status == 404
    assert (await production.get(f"{E}/services/web")).body == renamed.body


@pytest.mark.parametrize(("overlap", "kept"), [({}, ["api"]), ({"overlap_seconds": 0}, [])])
async def test_the_overlap_may_be_nothing(production: Api, overlap: dict[str, Any], kept: list[str]) -> None:
    renamed = await production.put(f"{E}/services/api", {"rename": "web", **overlap})
    assert [former["name"] for former in renamed.body["former_names"]] == kept


async def test_an_overlap_is_counted_from_the_stores_time(store_url: str) -> None:
    """Though this machine's clock is a day behind, which gave no overlap at all."""
    behind = Store(store_url, f"test-{secrets.token_hex(6)}:", wall_clock=lambda: time.time() - 86_400)
    async with Api(behind) as api:
        await api.put(E, {})
        await api.put(f"{E}/services/api", {})
        renamed = await api.put(f"{E}/services/api", {"rename": "web", "overlap_seconds": 600})
    await behind.close()
    (former,) = renamed.body["former_names"]
    assert abs(datetime.fromisoformat(former["until"]).timestamp() - time.time() - 600) < 60


async def test_a_rename_may_be_repeated(production: Api) -> None:
    """A client that lost the answer sends the same again, and it is no error."""
    first = await production.put(f"{E}/services/api", {"rename": "web"})
    again = await production.put(f"{E}/services/api", {"rename": "web"})
    assert (again.status, again.body) == (200, first.body)


async def test_a_rename_to_the_name_in_the_path_creates(production: Api) -> None:
    made = await production.put(f"{E}/services/web", {"rename": "web"})
    assert (made.status, made.body["name"]) == (201, "web")


async def test_a_rename_has_one_spelling_at_a_time(production: Api) -> None:
    refused = await production.put(f"{E}/services/api", {"rename": "web", "name": "web"})
    assert (refused.status, refused.body["field"]) == (400, "name")
    assert "give only 'rename'" in refused.body["detail"]


@pytest.mark.parametrize("word", ["rename", "name"])
async def test_a_rename_to_a_name_in_use_is_refused(production: Api, word: str) -> None:
    await production.put(f"{E}/services/web", {})
    refused = await production.put(f"{E}/services/api", {word: "web"})
    assert (refused.status, refused.problem, refused.body["field"]) == (409, "conflict", word)
    refused = await production.put(f"{E}/services/api", {word: "0x10"})
    assert (refused.status, refused.problem, refused.body["field"]) == (400, "invalid", word)


async def test_deleted_with_its_instances(production: Api) -> None:
    deleted = await production.delete(f"{E}/services/api")
    assert (deleted.status, deleted.revision) == (204, 5)
    for path in ("/services/api", "/services/api/instances", "/services/api/instances/a1"):
        assert (await production.get(E + path)).problem == "missing"
    assert (await production.delete(f"{E}/services/api")).problem == "missing"


async def test_listed_by_page(production: Api) -> None:
    await production.put(f"{E}/services/web", {})
    first = await production.get(f"{E}/services?limit=1")
    assert [service["name"] for service in first.body["services"]] == ["api"]
    assert (first.body["next"], first.body["revision"]) == ("api", 5)
    last = await production.get(f"{E}/services?limit=1&after=api")
    assert ([service["name"] for service in last.body["services"]], last.body["next"]) == (["web"], None)


async def test_what_is_large_is_shown_aside_from_the_event_loop(
    production: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = (f"{E}/services", f"{E}/services/api", f"{E}/services/api/instances", f"{E}/records", f"{E}/peers", E)
    aside, called = production.store.environments.aside, list[str]()
    call = aside.call

    async def noting(id_: str, function: Any) -> Any:
        called.append(id_)
        return await call(id_, function)

    monkeypatch.setattr(aside, "call", noting)
    for path in paths:
        assert (await production.get(path)).status == 200
    assert called == []
    edits = [{"op": "put-instance", "service": "api", "id": f"i{number:03}"} for number in range(LARGE_INSTANCES)]
    assert (await production.post(f"{E}/batch", {"edits": edits})).status == 200
    before = len(called)
    for path in paths:
        called.clear()
        shown = await production.get(path)
        assert (shown.status, called[-1:]) == (200, ["production"]), path
    assert before
    called.clear()
    page = (await production.get(f"{E}/services/api/instances?limit=2&after=i000")).body
    assert ([one["id"] for one in page["instances"]], page["next"]) == (["i001", "i002"], "i002")
