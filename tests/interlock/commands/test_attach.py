"""``interlock attach``, ``detach``, ``mesh``, ``host``: their requests to the agent of this host, and its answers."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.interlock.processes import run_here

WORKLOAD = ("-e", "e1", "--service", "api", "--instance", "a1")


@pytest.mark.parametrize(
    "command",
    [
        ("attach", *WORKLOAD, "--netns", "w1"),
        ("detach", *WORKLOAD),
        ("mesh",),
        ("host", "rotate"),
        ("host", "leave"),
    ],
    ids=lambda command: " ".join(command[:2]),
)
def test_without_an_agent_the_error_is_one_line(command: tuple[str, ...], tmp_path: Path) -> None:
    status, out, err = run_here(*command, "--agent-dir", str(tmp_path))
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert f"no agent can be asked at {tmp_path}/agent.sock" in err


def test_an_environment_is_required(tmp_path: Path) -> None:
    status, _, err = run_here("attach", *WORKLOAD[2:], "--netns", "w1", "--agent-dir", str(tmp_path))
    assert (status, "which environment?" in err) == (78, True)


# Requests and answers


@contextmanager
def agent(directory: Path, answer: dict[str, Any]) -> Iterator[list[dict[str, Any]]]:
    """An agent that answers its one request with ``answer``; gives the list of its requests."""
    requests: list[dict[str, Any]] = []
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(directory / "agent.sock"))
        listening.listen()

        def serve() -> None:
            connection, _ = listening.accept()
            with connection, connection.makefile("rwb") as stream:
                requests.append(json.loads(stream.readline()))
                stream.write(json.dumps(answer).encode() + b"\n")

        thread = threading.Thread(target=serve)
        thread.start()
        yield requests
        thread.join(10)


def test_attach_sends_its_arguments_and_shows_the_steps(tmp_path: Path) -> None:
    answer = {
        "ok": True, "address": "fd12::1", "interface": "railnet0", "mtu": 1420, "already": False, "resolv_conf": None,
        "steps": {"record": 1.5, "total": 42},
    }  # fmt: skip
    with agent(tmp_path, answer) as requests:
        status, out, _ = run_here("attach", *WORKLOAD, "--netns", "w1", "--region", "eu", "--agent-dir", str(tmp_path))
    assert status == 0
    assert out.splitlines() == [
        "fd12::1 is attached, on railnet0 (MTU 1420)",
        "resolv.conf: not written: name it with --resolv-conf",
        "milliseconds: record 1.5, total 42",
    ]
    assert requests == [
        {
            "op": "attach", "environment": "e1", "service": "api", "instance": "a1", "netns": "/run/netns/w1",
            "interface": "railnet0", "region": "eu", "replace": False, "build": False,
        }
    ]  # fmt: skip


def test_a_refusal_is_one_line(tmp_path: Path) -> None:
    with agent(tmp_path, {"ok": False, "kind": "refused", "error": "build workloads are not attached"}) as requests:
        status, out, err = run_here(
            "attach", *WORKLOAD, "--netns", "/proc/1/ns/net", "--build", "--agent-dir", str(tmp_path)
        )
    assert (status, out, err) == (1, "", "interlock: build workloads are not attached\n")
    assert requests[0]["build"] is True


@pytest.mark.parametrize(
    ("gone", "recorded", "said"),
    [(True, False, "detached"), (True, True, "cut off; its names"), (False, False, "the workload was not attached")],
)
def test_detach_says_what_became_of_the_workload(gone: bool, recorded: bool, said: str, tmp_path: Path) -> None:
    with agent(tmp_path, {"ok": True, "gone": gone, "recorded": recorded}) as requests:
        status, out, _ = run_here("detach", *WORKLOAD, "--agent-dir", str(tmp_path))
    assert (status, out.startswith(said)) == (0, True), out
    assert requests == [{"op": "detach", "environment": "e1", "service": "api", "instance": "a1"}]


def test_detach_may_cut_off(tmp_path: Path) -> None:
    with agent(tmp_path, {"ok": True, "gone": True, "recorded": True}) as requests:
        assert run_here("detach", *WORKLOAD, "--offline", "--agent-dir", str(tmp_path))[0] == 0
    assert requests[0]["offline"] is True


def test_an_answer_that_is_not_an_agents_is_one_line(tmp_path: Path) -> None:
    with agent(tmp_path, {"hello": "world"}):
        status, _, err = run_here("mesh", "--agent-dir", str(tmp_path))
    assert (status, "is not an agent's" in err) == (1, True)
