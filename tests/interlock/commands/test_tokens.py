"""``interlock token``: what is for one environment and what is for all of them is not mixed up."""

from __future__ import annotations

import asyncio

import pytest

from store.store import Store
from tests.admin.api import ROOT, Api
from tests.interlock.processes import run_here


async def test_an_admin_token_is_for_no_environment(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INTERLOCK_ENVIRONMENT", "production")  # of the shell, and no word of this command
    async with Api(store) as api:
        where = ("--api", f"http://127.0.0.1:{api.port}", "--token", ROOT)
        for command in (("create", "ci"), ("list",), ("delete", "0" * 12)):
            run = ("token", *command, "--admin", *where)
            status, out, err = await asyncio.to_thread(run_here, *run, "-e", "production")
            assert (status, out, err.count("\n")) == (78, "", 1)
            assert "an admin token is for all environments" in err
        assert await store.tokens.read() == {}
        assert (await asyncio.to_thread(run_here, "token", "create", "ci", "--admin", *where))[0] == 0
