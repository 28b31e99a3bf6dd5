"""The control socket: each line in gets a line out, whatever it holds."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from agent.control.client import NoAgent, Refusal, ask
from agent.control.requests import Attach, Collect, Detach, Request, Status
from agent.control.server import LONGEST_LINE, ControlServer
from agent.errors import CannotStart, Failed, NotNow, NotThere, Refused

WORKLOAD = {"environment": "e1", "service": "api", "instance": "a1", "netns": "/run/netns/w1"}


async def handle(request: Request) -> Mapping[str, Any]:
    match request:
        case Status():
            return {"host": "h1", "ready": True, "reason": ""}
        case Attach(environment="e1"):
            return {"address": "fd12::1"}
        case Attach(environment="store-away"):
            raise NotNow("store: gone: try again")
        case Attach(environment="missing"):
            raise NotThere("there is no\nenvironment")
        case Attach(environment="build"):
            raise Refused("builds are not attached")
        case Collect():
            raise RuntimeError("a fault")
    raise Failed("nothing")


@asynccontextmanager
async def serving(directory: Path) -> AsyncIterator[None]:
    server = ControlServer(directory / "agent.sock", handle)
    await server.start()
    try:
        yield
    finally:
        await server.stop()


async def send(directory: Path, **request: Any) -> dict[str, Any]:
    return await asyncio.to_thread(ask, directory, request, 5.0)


async def test_the_server_sends_the_answer_of_its_handler(tmp_path: Path) -> None:
    async with serving(tmp_path):
        assert await send(tmp_path, op="status") == {"host": "h1", "ready": True, "reason": ""}
        assert await send(tmp_path, op="attach", **WORKLOAD) == {"address": "fd12::1"}


async def test_only_root_may_connect(tmp_path: Path) -> None:
    async with serving(tmp_path):
        assert (tmp_path / "agent.sock").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("request_", "kind", "text"),
    [
        ({"op": "attach", **WORKLOAD, "environment": "store-away"}, "unavailable", "store: gone: try again"),
        ({"op": "attach", **WORKLOAD, "environment": "missing"}, "missing", "there is no environment"),
        ({"op": "attach", **WORKLOAD, "environment": "build"}, "refused", "builds"),
        ({"op": "mesh"}, "failed", "nothing"),
        ({"op": "gc", "keep": []}, "failed", "a fault of the agent"),
        ({"op": "dance"}, "invalid", "dance"),
        ({"op": "attach", **WORKLOAD, "netns": "web"}, "invalid", "^netns: 'web' is no absolute path"),
        ({"op": "attach", **WORKLOAD, "netns": "/\0"}, "invalid", "^netns: .* is no absolute path"),
        ({"op": "attach", **WORKLOAD, "resolv_conf": "a" * 9}, "invalid", "^resolv_conf: 'a+' is no absolute path"),
        ({"op": "attach", **WORKLOAD, "interface": "a/b"}, "invalid", "^interface: 'a/b' cannot be the name"),
        ({"op": "attach", **WORKLOAD, "interface": ""}, "invalid", "^interface: '' cannot be the name"),
        ({"op": "attach", **WORKLOAD, "colour": "red"}, "invalid", "colour"),
        ({"op": "attach", **WORKLOAD, "interface": "a-name-that-is-too-long"}, "invalid", "^interface: .* 1 to 15"),
        ({"op": "detach", "environment": "e1"}, "invalid", "container"),
        ({"op": "detach", "environment": "e1", "service": "s", "instance": "i", "container": "c"}, "invalid", "both"),
        ({}, "invalid", "op"),
    ],
)
async def test_a_request_that_fails_is_answered_with_its_kind_and_its_reason_in_one_line(
    tmp_path: Path, request_: dict[str, Any], kind: str, text: str
) -> None:
    async with serving(tmp_path):
        with pytest.raises(Refusal, match=text) as refused:
            await send(tmp_path, **request_)
        assert refused.value.kind == kind
        assert await send(tmp_path, op="status")


async def test_garbage_is_answered_and_the_connection_goes_on(tmp_path: Path) -> None:
    async with serving(tmp_path):
        reader, writer = await asyncio.open_unix_connection(str(tmp_path / "agent.sock"))
        for line in (b"not json\n", b"[1, 2]\n", b"\xff\xfe\n", b"\n"):
            writer.write(line)
            assert json.loads(await reader.readline())["kind"] == "invalid"
        writer.write(b'{"op": "status"}\n')
        assert json.loads(await reader.readline())["ok"]
        writer.close()


async def test_a_line_that_is_too_long_ends_its_connection_only(tmp_path: Path) -> None:
    async with serving(tmp_path):
        reader, writer = await asyncio.open_unix_connection(str(tmp_path / "agent.sock"))
        writer.write(b"x" * (LONGEST_LINE + 100_000))
        with contextlib.suppress(ConnectionResetError):  # as it goes where not all that was sent was read
            assert await reader.read() == b""
        writer.close()
        assert await send(tmp_path, op="status")


async def test_the_socket_of_a_killed_agent_is_replaced_and_that_of_a_running_one_is_not(tmp_path: Path) -> None:
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(tmp_path / "agent.sock"))
    left.close()
    async with serving(tmp_path):
        with pytest.raises(CannotStart, match="already"):
            await ControlServer(tmp_path / "agent.sock", handle).start()
        assert await send(tmp_path, op="status")
    assert not (tmp_path / "agent.sock").exists()


async def test_without_an_agent_the_clients_error_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(NoAgent, match="does 'interlock agent' run here"):
        await send(tmp_path, op="status")


async def test_the_client_gives_up_on_an_agent_that_does_not_answer(tmp_path: Path) -> None:
    async def hang(_request: Request) -> Mapping[str, Any]:
        await asyncio.sleep(60)
        return {}

    server = ControlServer(tmp_path / "agent.sock", hang)
    await server.start()
    with pytest.raises(NoAgent, match=r"not answered within 0\.2 s"):
        await asyncio.to_thread(ask, tmp_path, {"op": "status"}, 0.2)
    await server.stop()


def test_a_detach_names_a_workload_or_a_container() -> None:
    assert Detach(container="c1").container == "c1"
    assert Detach("e1", "api", "a1").instance == "a1"
