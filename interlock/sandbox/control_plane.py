"""A control plane on the underlay of a sandbox, and a client of its admin API."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from interlock.client import Client
from interlock.process.state_dir import TOKEN_FILE
from interlock.sandbox.hosts import Underlay
from interlock.sandbox.node import Program, interlock

PORT = 8443  # at which hosts reach the control plane


@dataclass(frozen=True, slots=True)
class UnderlayClient(Client):
    """A client on the control plane's machine."""

    underlay: Underlay
    """What joins that machine with the hosts."""

    def _send(self, *arguments: Any, **more: Any) -> Any:
        return self.underlay.namespace.call(lambda: Client._send(self, *arguments, **more))


class ControlPlane:
    """``interlock admin``, or another ``program`` that is one, on its machine; hosts reach it at ``port``.

    Its admin API is at the port after that one, on that machine alone. Its log, and its state, are in ``directory``.
    """

    def __init__(self, program: str, joined: Underlay, directory: Path, *options: str, port: int = PORT) -> None:
        v4, v6 = joined.control
        self.url, self.url_of_ipv6 = f"https://{v4}:{port}", f"https://[{v6}]:{port}"
        self._underlay, self._state, self._api = joined, directory / f"{program}-{port}", f"127.0.0.1:{port + 1}"
        command = interlock(
            program, "--state-dir", str(self._state), "--api-listen", self._api,
            "--hosts-listen", f"{v4}:{port}", "--hosts-listen", f"[{v6}]:{port}", "--log-format", "json", *options,
        )  # fmt: skip
        self.program = Program(command, directory / f"{program}-{port}.log", joined.popen)

    @property
    def client(self) -> Client:
        """A client of its admin API."""
        return UnderlayClient(f"http://{self._api}", (self._state / TOKEN_FILE).read_text().strip(), self._underlay)
