"""Environments: made, shown, listed, deleted, made again."""

from __future__ import annotations

import re
from ipaddress import IPv6Network

from store.tokens import Token
from tests.admin.api import Api, E


async def test_created_then_changed_as_the_design_shows(api: Api) -> None:
    made = await api.put(E, {"enabled": True})
    assert made.status == 201
    assert list(made.body) == ["id", "network", "enabled", "revision"]
    assert (made.body["id"], made.body["enabled"], made.body["revision"]) == ("production", True, 1)
    assert re.fullmatch(r"fd12:.*/48", made.body["network"])
    assert made.revision == 1

    changed = await api.put(E, {"enabled": False})
    assert (changed.status, changed.body["enabled"], changed.body["revision"]) == (200, False, 2)
    assert changed.body["network"] == made.body["network"]


async def test_isolated_and_opened_again(api: Api) -> None:
    made = await api.put(E, {"isolated": True})
    assert (made.status, made.body["isolated"], made.body["enabled"], made.body["revision"]) == (201, True, True, 1)
    assert (await api.put(E, {})).body["isolated"] is True
    opened = await api.put(E, {"isolated": False})
    assert (opened.status, opened.body["revision"], "isolated" in opened.body) == (200, 2, False)


async def test_a_put_that_changes_nothing_commits_nothing(api: Api) -> None:
    await api.put(E, {"enabled": False})
    for body in ({}, {"enabled": False}):
        again = await api.put(E, body)
        assert (again.status, again.body["revision"], again.body["enabled"]) == (200, 1, False)
    assert api.counts.commits == 1
    assert len(await api.store.changes.read_after("0-0")) == 1


async def test_shown_with_all_that_is_in_it(production: Api) -> None:
    shown = await production.get(E)
    network = IPv6Network(shown.body.pop("network"))
    address = str(network.network_address + (1 << 64) + 1)
    assert shown.body == {
        "id": "production",
        "enabled": True,
        "revision": 4,
        "services": [
            {
                "name": "api",
                "subnet": f"{network.network_address + (1 << 64)}/64",
                "ports": [{"name": "http", "number": 8080, "protocol": "tcp"}],
                "former_names": [],
                "instances": [
                    {
                        "id": "a1",
                        "address": address,
                        "state": "ready",
                        "region": "eu",
                        "host": None,
                        "placement": "unmanaged",
                    }
                ],
            }
        ],
        "records": [{"name": "db", "type": "CNAME", "ttl": 60, "values": ["api.railway.internal."]}],
        "peers": [],
    }


async def test_head_is_get_without_a_body(production: Api) -> None:
    got, head = await production.get(E), await production.send("HEAD", E)
    assert (head.status, head.body, head.headers["ETag"]) == (200, "", got.headers["ETag"])
    assert head.headers["Content-Length"] == got.headers["Content-Length"]


async def test_created_again_after_deletion_it_has_a_new_network_and_the_next_revision(production: Api) -> None:
    before = await production.get(E)
    deleted = await production.delete(E)
    assert (deleted.status, deleted.body, deleted.revision) == (204, "", 5)
    missing = await production.get(E)
    assert missing.status == 404
    assert missing.body["detail"] == f"there is no environment 'production': create it with PUT {E}"
    again = await production.delete(E)
    assert (again.problem, again.body["detail"]) == (
        "missing", "there is no environment 'production': it was deleted before, or never created",
    )  # fmt: skip

    again = await production.put(E, {})
    assert (again.status, again.body["revision"]) == (201, 6)
    assert again.body["network"] != before.body["network"]
    assert (await production.get(f"{E}/services")).body["services"] == []


async def test_deletion_ends_its_tokens_and_no_others(production: Api) -> None:
    await production.put("/v1/environments/staging", {})
    ours, theirs = await production.make_token(), await production.make_token("staging")
    await production.delete(E)
    await production.put(E, {})
    assert (await production.get(E, token=ours)).status == 401
    assert (await production.get("/v1/environments/staging", token=theirs)).status == 200


async def test_created_again_it_is_closed_to_tokens_that_a_crash_left_behind(production: Api) -> None:
    await production.delete(E)
    await production.store.tokens.add("left behind", Token("t1", "production", "old", 0))
    await production.put(E, {})
    assert await production.store.tokens.read() == {}


async def test_listed_by_page(api: Api) -> None:
    for id_ in ("c", "a", "d", "b"):
        await api.put(f"/v1/environments/{id_}", {})
    await api.delete("/v1/environments/b")

    first = await api.get("/v1/environments?limit=2")
    assert ([each["id"] for each in first.body["environments"]], first.body["next"]) == (["a", "c"], "c")
    last = await api.get("/v1/environments?limit=2&after=c")
    assert ([each["id"] for each in last.body["environments"]], last.body["next"]) == (["d"], None)
    after_all = await api.get("/v1/environments?after=z")
    assert after_all.body == {"environments": [], "unreadable": [], "next": None}
    assert list(last.body["environments"][0]) == ["id", "network", "enabled", "revision"]


async def test_a_broken_document_hides_no_other(production: Api) -> None:
    await production.put("/v1/environments/broken", {})
    async with production.store.connection.client() as redis:
        await redis.set(production.store.connection.keys.environment("broken"), b'{"id": "\xff')
    listed = await production.get("/v1/environments")
    assert [each["id"] for each in listed.body["environments"]] == ["production"]
    assert listed.body["unreadable"] == ["broken"]

    shown = await production.get("/v1/environments/broken")
    assert (shown.status, shown.problem) == (409, "damaged")
    assert "its document is not the one that the index names" in shown.body["detail"]
