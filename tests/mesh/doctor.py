"""Runs `interlock doctor` on hosts and where the control plane is, and reads what it says."""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

from support.patience import patience
from tests.interlock.processes import run_here
from tests.mesh.mesh import Mesh, Node, until
from tests.mesh.topology import Workload
from tests.namespaces import CLONE_NEWPID, call_inside
from tests.waiting import scaled

PROMPT = 2.0  # seconds in which a cause is to be named
PORT = 8080

_SERVE = """
import socket, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
with socket.create_server((sys.argv[1], int(sys.argv[2])), family=family) as server:
    print("ready", flush=True)
    while True:
        server.accept()[0].close()
"""


class Examined:
    """What the doctor said."""

    def __init__(self, status: int, report: dict[str, Any]) -> None:
        self.status, self.report = status, report
        # Generous, for a busy machine: a source that is waited for without a deadline would take far longer.
        assert report["seconds"] < scaled(3 * PROMPT) * patience(), report

    @property
    def cause(self) -> str:
        cause = self.report["cause"]
        return f"{cause['check']}: {cause['detail']}" if cause else ""

    @property
    def fix(self) -> str:
        return str(self.report["cause"]["fix"])

    def says(self, check: str, standing: str, text: str = "") -> bool:
        """Whether a mark of ``check`` has this standing and holds ``text``."""
        marks = self.report["marks"]
        return any((m["check"], m["standing"]) == (check, standing) and text in m["detail"] for m in marks)


def examine(node: Node, *arguments: str) -> Examined:
    """The doctor, run on ``node``."""
    # In this process, inside the host's namespaces: a new one takes seconds to start where many tests run.
    # Not in its process ids: a thread that has other ones for its children can start no thread.
    places = [(path, kind) for path, kind in node.host.namespace_paths() if kind != CLONE_NEWPID]
    status, out, errors = call_inside(places, lambda: run_here("doctor", "--json", *arguments))
    assert out, errors
    assert not errors, errors
    return Examined(status, json.loads(out))


def examine_plane(mesh: Mesh, *arguments: str) -> Examined:
    """The doctor, run where the control plane is."""
    api = ("--api", mesh.client.url, "--token", mesh.client.token, "--agent-dir", "")
    status, out, errors = mesh.underlay.namespace.call(lambda: run_here("doctor", "--json", *api, *arguments))
    assert out, errors
    return Examined(status, json.loads(out))


def until_named(node: Node | Mesh, text: str, *arguments: str) -> Examined:
    """What the doctor says as soon as its cause, or its fix, holds ``text``, and it does not end with 0."""
    found: list[Examined] = []

    def is_named() -> bool:
        found.append(examine_plane(node, *arguments) if isinstance(node, Mesh) else examine(node, *arguments))
        return bool(found[-1].status) and text in found[-1].cause

    until(is_named, lambda: f"{text!r} is not the cause: {found[-1].report}", scaled(40.0))
    return found[-1]


def until_well(*nodes: Node) -> None:
    """Returns when the doctor finds nothing wrong on ``nodes``: what a test has broken is mended."""
    for node in nodes:
        found: list[Examined] = []

        def is_well(node: Node = node, found: list[Examined] = found) -> bool:
            found.append(examine(node))
            return found[-1].status == 0

        until(is_well, lambda found=found: f"still {found[-1].report}", scaled(40.0))  # type: ignore[misc]


@contextlib.contextmanager
def deployed(mesh: Mesh, id_: str, *hosts: str) -> Iterator[dict[str, Workload]]:
    """An environment whose service ``api`` has an instance on each of ``hosts``, on which a program serves."""
    mesh.environment(id_)
    ports = [{"name": "http", "number": PORT, "protocol": "tcp"}]
    mesh.client.put("environments", id_, "services", "api", body={"ports": ports})
    workloads: dict[str, Workload] = {}
    with contextlib.ExitStack() as stack:
        stack.callback(mesh.client.delete, "environments", id_)
        for name in hosts:
            workloads[name] = mesh.nodes[name].attach(id_, "api", f"on-{name}")
            stack.callback(workloads[name].remove)
            stack.callback(mesh.nodes[name].detach, id_, "api", f"on-{name}")
            stack.enter_context(serving(workloads[name], "::"))
        yield workloads


@contextlib.contextmanager
def serving(workload: Workload, address: str, port: int = PORT) -> Iterator[None]:
    """A program that accepts connections in ``workload`` at ``address``."""
    with tempfile.TemporaryFile() as log:
        process = workload.popen([sys.executable, "-c", _SERVE, address, str(port)], log)
        try:
            assert process.stdout
            assert process.stdout.readline() == b"ready\n", log.seek(0) or log.read()
            yield
        finally:
            process.kill()
            process.communicate()
