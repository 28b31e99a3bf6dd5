"""The product on a host: an agent and a resolver, and how they are asked.

They are programs of their own, as on a real host, and all that is known of them is what their commands, their logs and
the agent's socket say.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from agent.control.client import NoAgent, ask
from interlock.sandbox.hosts import DEADLINE, Host, Workload

WIREGUARD = 51820  # the port of every host
AGENT_DIRECTORY = "/run/interlock"


def interlock(*arguments: str) -> tuple[str, ...]:
    """The command that runs the product with ``arguments``."""
    return (sys.executable, "-m", "interlock", *arguments)


def environ(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment variables of a program: those of this process but the product's, and ``more``."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("INTERLOCK_")}
    return clean | dict(more or {})


class Program:
    """A program that can be started, ended and started again by ``popen``. All its runs append to one log."""

    def __init__(self, command: Sequence[str], log: Path, popen: Callable[..., subprocess.Popen[bytes]]) -> None:
        self._command, self._path, self._popen = command, log, popen
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts it."""
        with self._path.open("ab") as log:
            self._process = self._popen(self._command, log, environ())

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Its process id, as the machine sees it."""
        assert self._process
        return self._process.pid

    def kill(self) -> None:
        """``kill -9``."""
        if self._process:
            self._process.kill()
            self._process.wait()

    def stop(self) -> int:
        """Asks it to end, and gives its exit status."""
        assert self._process
        self._process.terminate()
        return self._process.wait(DEADLINE)

    @property
    def log(self) -> str:
        """The log of all its runs."""
        return self._path.read_text() if self._path.exists() else ""

    def events(self, name: str) -> list[dict[str, Any]]:
        """The events ``name`` in its log."""
        whole = self.log.rpartition("\n")[0].splitlines()
        return [event for line in whole if line.startswith("{") and (event := json.loads(line))["event"] == name]


class Node:
    """A host with an agent and a resolver."""

    def __init__(self, host: Host, directory: Path, id_: str, agent: Sequence[str], resolver: Sequence[str]) -> None:
        """``id_`` is the id of the host; ``agent`` and ``resolver`` are the commands that run there.

        Their logs, and the agent's state, are kept in ``directory``.
        """
        self.name, self.host, self.id = host.name, host, id_
        self.agent = Program(agent, directory / f"agent-{self.name}.log", host.popen)
        self.resolver = Program(resolver, directory / f"resolver-{self.name}.log", host.popen)

    def start(self) -> None:
        """Starts both; see `is_ready`."""
        self.agent.start()
        self.resolver.start()

    @property
    def is_ready(self) -> bool:
        """Whether workloads can be attached."""
        try:
            return bool(self.ask("status")["ready"])
        except NoAgent:
            return False

    @property
    def device(self) -> str:
        """Which WireGuard it has, as the agent's setting names it: ``kernel`` or ``userspace``."""
        shown = self.host.run(["ip", "-json", "-details", "link", "show", "interlock0"]).stdout
        return "kernel" if json.loads(shown)[0]["linkinfo"]["info_kind"] == "wireguard" else "userspace"

    def workload(self, kind: str = "w") -> Workload:
        """A new workload, not attached yet."""
        return self.host.workload(kind)

    def ask(self, op: str, **fields: Any) -> dict[str, Any]:
        """The agent's answer to one request. Raises `agent.control.client.Refusal` and `NoAgent`."""
        # The socket is in the host's file system. By way of /proc its path is short enough for a unix socket.
        return ask(Path(f"{self.host.root}{AGENT_DIRECTORY}"), {"op": op, **fields})

    def attach(
        self, environment: str, service: str, instance: str, workload: Workload | None = None, **more: Any
    ) -> Workload:
        """Attaches ``workload``, or a new one, by the agent's socket; gives it. ``more`` are fields of the request."""
        workload = workload or self.workload()
        given = {"netns": workload.path, "resolv_conf": str(workload.resolv_conf), **more}
        workload.attach_answer = self.ask(
            "attach", environment=environment, service=service, instance=instance, **given
        )
        return workload

    def detach(self, environment: str, service: str, instance: str) -> bool:
        """Detaches by the agent's socket; False if it was not attached."""
        return bool(self.ask("detach", environment=environment, service=service, instance=instance)["gone"])
