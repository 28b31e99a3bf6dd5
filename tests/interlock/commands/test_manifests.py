"""``interlock apply`` and ``export``, against a real API: the difference, the question, and nothing the second time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from interlock.client import Client
from store.store import Store
from tests.admin.api import ROOT, Api, E, make_host, make_key
from tests.interlock.commands.test_deletions import Commands

pytestmark = pytest.mark.parametrize("store_url", ["valkey"], indirect=True)  # the commands see no difference

DOCUMENT = f"""\
environments:
  production:
    services:
      api:
        ports: [http:8080/tcp]
        instances:
          a1: {{region: eu}}
      web:
    records:
      db: {{CNAME: api.railway.internal.}}
    peers:
      laptop: {{public_key: "{make_key(0xA1)}", gateway: h1}}
  staging:
    isolated: true
"""


class Applied(Commands):
    """The commands, and a document."""

    file: Path

    async def apply(self, text: str, *more: str) -> tuple[int, str, str]:
        self.file.write_text(text)
        return await self("apply", "-f", str(self.file), *more)


@pytest_asyncio.fixture
async def run(store: Store, tmp_path: Path) -> Any:
    async with Api(store) as api:
        await store.hosts.register(make_host(1))
        commands = Applied(api)
        commands.file = tmp_path / "platform.yaml"
        yield commands


async def test_environments_become_as_the_document_says_and_stay_so(run: Applied) -> None:
    status, out, _ = await run.apply(DOCUMENT, "--dry-run")
    assert (status, (await run.api.get(E)).status) == (0, 404)
    assert out == (
        "production\n  + environment production\n  + service api: ports http:8080/tcp\n"
        "  + instance a1 of api: state ready, region eu\n  + service web\n"
        "  + record db CNAME: ttl 60, values api.railway.internal.\n"
        f"  + peer laptop: public_key {make_key(0xA1)}, gateway h1\n"
        "staging\n  + environment staging: isolated yes\n7 to create\n"
    )
    status, out, err = await run.apply(DOCUMENT)
    assert (status, err) == (0, "7 to create\n")
    assert out.endswith("staging is at revision 1\n")
    assert (await run.api.get("/v1/environments/staging")).body["isolated"] is True
    before = (await run.api.get(E)).body
    assert await run.apply(DOCUMENT) == (0, "nothing to change\n", "")
    assert (await run.api.get(E)).body == before


async def test_what_the_document_leaves_out_stays_and_what_it_gives_is_all(run: Applied) -> None:
    await run.apply(DOCUMENT)
    await run.api.put(f"{E}/services/api/instances/on-host", {"host": "h1"})
    await run.api.put(f"{E}/services/api/instances/a2", {})
    changed = DOCUMENT.replace("8080", "80").replace("      web:\n", "").replace("db: {CNAME: api", "db: {CNAME: web")
    changed = changed[: changed.index("    peers:")]
    status, out, _ = await run.apply(changed, "--dry-run", "--json")
    assert (status, [(one["change"], one["what"]) for one in json.loads(out)["environments"][0]["changes"]]) == (
        0,
        [
            ("delete", "instance a2 of api"), ("delete", "service web"), ("change", "service api"),
            ("change", "record db CNAME"),
        ],
    )  # fmt: skip
    status, out, err = await run.apply(changed)
    assert (status, "~ service api: ports http:8080/tcp → ports http:80/tcp" in out) == (0, True), err
    now = (await run.api.get(E)).body
    assert [one["id"] for one in now["services"][0]["instances"]] == ["a1", "on-host"]
    assert [one["id"] for one in now["peers"]] == ["laptop"]


async def test_what_is_exported_changes_nothing_where_it_came_from_and_makes_the_same_elsewhere(run: Applied) -> None:
    await run.apply(DOCUMENT)
    await run.api.put(f"{E}/services/api/instances/on-host", {"host": "h1"})
    text = await run.done("export")
    assert await run.apply(text) == (0, "nothing to change\n", "")
    for id_ in ("production", "staging"):
        await run.done("env", "rm", id_)
    assert (await run.apply(text))[0] == 0
    assert await run.done("export") == text
    only = await run.done("export", "staging")
    assert ("staging" in only, "production" in only) == (True, False)


async def test_a_person_is_asked(run: Applied) -> None:
    run.file.write_text(DOCUMENT)
    no = await run.seen("apply", "-f", str(run.file), answers=[("[y/N]", "n")])
    assert (no.status, "Apply this?" in no.text, (await run.api.get(E)).status) == (130, True, 404)
    yes = await run.seen("apply", "-f", str(run.file), answers=[("[y/N]", "y")])
    assert (yes.status, (await run.api.get(E)).status) == (0, 200)


async def test_a_refusal_of_the_api_names_the_line(run: Applied) -> None:
    await run.apply(DOCUMENT)
    status, _, err = await run.apply(DOCUMENT.replace("gateway: h1", "gateway: h9"))
    assert (status, f"{run.file}, line 12: " in err, "h9" in err) == (1, True, True)
    status, out, err = await run.apply(DOCUMENT.replace("CNAME: api.railway.internal.", "CNAME: [a., b.]"))
    assert (status, f"{run.file}, line 10: " in err) == (1, True), err
    status, out, err = await run.apply(DOCUMENT.replace("ports", "portz"))
    assert (status, out, err) == (78, "", f"interlock: {run.file}, line 5: a service has no 'portz': it may have ports,"
                                  " instances\n")  # fmt: skip


async def test_very_many_deletions_need_yes(run: Applied) -> None:
    await run.apply(DOCUMENT)
    edits = [{"op": "put-instance", "service": "api", "id": f"i{one}"} for one in range(20)]
    assert (await run.api.post(f"{E}/batch", {"edits": edits})).status == 200
    status, _, err = await run.apply("environments:\n  production:\n    services:\n")
    assert (status, "give --yes" in err) == (1, True)
    assert (await run.apply("environments:\n  production:\n    services:\n", "--yes"))[0] == 0
    assert (await run.api.get(f"{E}/services")).body["services"] == []


async def test_what_has_changed_since_it_was_shown_is_not_overwritten(
    run: Applied, monkeypatch: pytest.MonkeyPatch
) -> None:
    await run.apply(DOCUMENT)
    client = Client(f"http://127.0.0.1:{run.api.port}", ROOT)

    def somebody_else_is_first(_question: str, *, yes: bool) -> bool:
        client.put("environments", "production", "services", "api", body={"ports": []})
        return yes

    monkeypatch.setattr("interlock.commands.manifests.confirm", somebody_else_is_first)
    status, _, err = await run.apply(DOCUMENT.replace("8080", "80"))
    assert (status, "Somebody else was first" in err) == (1, True)
    assert (await run.api.get(f"{E}/services/api")).body["ports"] == []


@pytest.mark.parametrize(("file", "said"), [("/nonexistent", "No such file"), ("/proc/self/mem", "cannot be read")])
async def test_a_document_that_cannot_be_read(run: Applied, file: str, said: str) -> None:
    status, out, err = await run("apply", "-f", file)
    assert (status, out, said in err) == (78, "", True)
