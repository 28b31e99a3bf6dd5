"""``interlock agent`` and the commands that ask it: what is missing is said in one line, before anything is touched."""

from __future__ import annotations

import json
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.interlock.processes import interlock, run_here, unprivileged

STORE = ("--redis", "unix:///nobody/there.sock")
PLACE = ("--host", "h1", "--endpoint", "192.0.2.1:51820")
WORKLOAD = ("-e", "e1", "--service", "api", "--instance", "a1")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (PLACE, "'interlock agent' needs a store: give --redis URL or set INTERLOCK_REDIS_URL"),
        ((*STORE, "--host", "h1"), "give --endpoint ADDRESS:PORT or set INTERLOCK_ENDPOINT"),
        ((*STORE, "--endpoint", "192.0.2.1:51820", "--host", ""), "give --host or set INTERLOCK_HOST"),
        ((*STORE, *PLACE, "--agent-dir", ""), "give --agent-dir or set INTERLOCK_AGENT_DIR"),
        ((*STORE, "--host", "h1", "--endpoint", "0.0.0.0:51820"), "--endpoint"),
        ((*STORE, *PLACE, "--wireguard", "magic"), "--wireguard"),
        ((*STORE, *PLACE, "--device", "a name that is too long"), "--device"),
        ((*STORE, *PLACE, "--region", "EU west"), "--region"),
    ],
)
def test_a_setting_that_is_missing_or_wrong_is_one_line(arguments: tuple[str, ...], said: str) -> None:
    status, out, err = run_here("agent", *arguments)
    assert (status, out, err.count("\n")) == (78, "", 1)
    assert said in err


def test_it_needs_root(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    command = interlock("agent", *STORE, *PLACE, "--state-dir", str(tmp_path / "state"))
    done = subprocess.run(unprivileged(*command), capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines() == ["interlock: 'interlock agent' changes the network of its host: run it as root"]
    assert list(tmp_path.iterdir()) == []


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
def test_where_no_agent_runs_the_line_says_so(command: tuple[str, ...], tmp_path: Path) -> None:
    status, out, err = run_here(*command, "--agent-dir", str(tmp_path))
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert f"no agent can be asked at {tmp_path}/agent.sock" in err


def test_which_environment_must_be_said(tmp_path: Path) -> None:
    status, _, err = run_here("attach", *WORKLOAD[2:], "--netns", "w1", "--agent-dir", str(tmp_path))
    assert (status, "which environment?" in err) == (78, True)


# What is asked, and what becomes of the answer


@contextmanager
def agent(directory: Path, answer: dict[str, Any]) -> Iterator[list[dict[str, Any]]]:
    """Something that answers every request with ``answer``, and keeps what it was asked."""
    asked: list[dict[str, Any]] = []
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(directory / "agent.sock"))
        listening.listen()

        def serve() -> None:
            connection, _ = listening.accept()
            with connection, connection.makefile("rwb") as stream:
                asked.append(json.loads(stream.readline()))
                stream.write(json.dumps(answer).encode() + b"\n")

        thread = threading.Thread(target=serve)
        thread.start()
        yield asked
        thread.join(10)


def test_attach_asks_for_what_was_said_and_shows_the_steps(tmp_path: Path) -> None:
    answer = {
        "ok": True, "address": "fd12::1", "interface": "railnet0", "mtu": 1420, "already": False, "resolv_conf": None,
        "steps": {"record": 1.5, "total": 42},
    }  # fmt: skip
    with agent(tmp_path, answer) as asked:
        status, out, _ = run_here("attach", *WORKLOAD, "--netns", "w1", "--region", "eu", "--agent-dir", str(tmp_path))
    assert status == 0
    assert out.splitlines() == [
        "fd12::1 is attached, on railnet0 (MTU 1420)",
        "resolv.conf: not written: name it with --resolv-conf",
        "milliseconds: record 1.5, total 42",
    ]
    assert asked == [
        {
            "op": "attach", "environment": "e1", "service": "api", "instance": "a1", "netns": "/run/netns/w1",
            "interface": "railnet0", "region": "eu", "build": False,
        }
    ]  # fmt: skip


def test_what_the_agent_refuses_is_one_line(tmp_path: Path) -> None:
    with agent(tmp_path, {"ok": False, "kind": "refused", "error": "build workloads are not attached"}) as asked:
        status, out, err = run_here(
            "attach", *WORKLOAD, "--netns", "/proc/1/ns/net", "--build", "--agent-dir", str(tmp_path)
        )
    assert (status, out, err) == (1, "", "interlock: build workloads are not attached\n")
    assert asked[0]["build"] is True


@pytest.mark.parametrize(
    ("gone", "said"), [(True, "detached\n"), (False, "the workload was not attached to this host\n")]
)
def test_detach_says_whether_there_was_something(gone: bool, said: str, tmp_path: Path) -> None:
    with agent(tmp_path, {"ok": True, "gone": gone}) as asked:
        assert run_here("detach", *WORKLOAD, "--agent-dir", str(tmp_path))[:2] == (0, said)
    assert asked == [{"op": "detach", "environment": "e1", "service": "api", "instance": "a1"}]


def test_what_answers_nonsense_is_no_agent(tmp_path: Path) -> None:
    with agent(tmp_path, {"hello": "world"}):
        status, _, err = run_here("mesh", "--agent-dir", str(tmp_path))
    assert (status, "is not an agent's" in err) == (1, True)
