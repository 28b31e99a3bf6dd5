"""``interlock guard``, and a deletion that has to be confirmed."""

from __future__ import annotations

import asyncio
import json

import click
import pytest

from admin.http.context import HeldView
from store.store import Store
from tests.admin.api import ROOT, Api, E
from tests.interlock.processes import run_here


async def run(api: Api, *arguments: str) -> tuple[int, str, str]:
    """Exit status, output and errors of ``interlock`` with ``arguments``."""
    where = ("--api", f"http://127.0.0.1:{api.port}", "--token", ROOT)
    return await asyncio.to_thread(run_here, *arguments, *where)


async def test_what_is_held_is_shown_and_confirmed(store: Store) -> None:
    held = [HeldView("hosts", ("h1", "h2"), "hosts have vanished", 3.0)]
    async with Api(store, held=lambda: held) as api:
        status, out, _ = await run(api, "guard", "show")
        assert (status, out.splitlines()[1].split()[:2]) == (0, ["hosts", "2"])
        status, out, err = await run(api, "guard", "confirm")
        assert (status, out) == (78, "")
        assert "there is no terminal to ask on: give --yes" in err
        assert await store.guard.read() is None
        status, out, _ = await run(api, "guard", "confirm", "--yes")
        confirmation = await store.guard.read()
        assert confirmation
        assert (status, out) == (0, f"confirmed: {confirmation.change}\n")
        held.clear()
        assert await run(api, "guard", "show") == (0, "nothing is held\n", "")
        status, out, _ = await run(api, "guard", "show", "--json")
        assert json.loads(out)["confirmation"] == confirmation.change


async def test_a_process_without_a_watcher_says_where_to_ask(store: Store) -> None:
    async with Api(store) as api:
        status, out, _ = await run(api, "guard", "show")
        assert (status, "interlock mesh" in out) == (0, True)


async def test_a_person_is_asked(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("interlock.commands.guard.sys.stdin.isatty", lambda: True, raising=False)
    for answer, is_confirmed in ((False, False), (True, True)):
        monkeypatch.setattr("click.confirm", lambda *_, answer=answer, **__: answer or _abort())
        async with Api(store) as api:
            status, _, _ = await run(api, "guard", "confirm")
            assert (status == 0, await store.guard.read() is not None) == (is_confirmed, is_confirmed)


def _abort() -> bool:
    raise click.Abort


async def test_a_service_with_most_names_is_deleted_when_that_is_meant(store: Store) -> None:
    async with Api(store) as api:
        await api.put(E, {})
        await api.put(f"{E}/services/api", {})
        edits = [{"op": "put-instance", "service": "api", "id": f"i{one}"} for one in range(20)]
        assert (await api.post(f"{E}/batch", {"edits": edits})).status == 200
        status, _, err = await run(api, "service", "delete", "api", "-e", "production")
        assert (status, err.count("\n")) == (1, 1)
        assert "it deletes 21 of the 21 names of 'production'" in err
        assert "give --yes" in err
        done = (0, "deleted the service api of production with 20 instances\n", "")
        assert await run(api, "service", "delete", "api", "-e", "production", "--yes") == done
        assert (await api.get(f"{E}/services")).body["services"] == []
