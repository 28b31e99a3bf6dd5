"""`interlock up` in a process of its own, with two environments whose clients are told apart by loopback addresses."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from interlock.client import Client
from tests.interlock.processes import Running, get, python, started

NOISY, NEIGHBOUR = "127.0.1.{}", "127.0.2.{}"
"""Addresses of the clients of two environments; each stands for a workload."""


@dataclass(frozen=True, slots=True)
class Installation:
    """A running `interlock up`."""

    process: Running
    """The process."""
    port: int
    """The port of its resolver on 127.0.0.1."""
    api: str
    """The URL of its API."""
    token: str
    """Its root token."""
    upstream: str
    """The address of its upstream, which never answers."""

    @property
    def upstream_queries(self) -> str:
        """The sample that counts what the upstream was asked."""
        return f'interlock_upstream_queries_total{{upstream="{self.upstream}"}}'

    @property
    def client(self) -> Client:
        return Client(self.api, self.token)

    def metric(self, sample: str) -> float:
        """The value of ``sample``; 0 where there is none yet."""
        match = re.search(rf"^{re.escape(sample)} (\S+)$", get(self.api + "/metrics")[1], re.MULTILINE)
        return float(match[1]) if match else 0.0


@contextmanager
def installation(
    directory: Path, *flags: str, files: int | None = None, module: str = "interlock"
) -> Iterator[Installation]:
    """An `interlock up` with the environments ``noisy`` and ``neighbour``, and an upstream that never answers.

    It can open ``files`` descriptors, if that is given. Another ``module`` than the product's runs it otherwise.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:  # takes queries, and never reads them
        silent.bind(("127.0.0.1", 0))
        command = python(
            "-m", module, "up", "--state-dir", str(directory), "--dns-listen", "127.0.0.1:0",
            "--api-listen", "127.0.0.1:0", "--upstream", f"127.0.0.1:{silent.getsockname()[1]}",
            "--bind", f"{NOISY.format(0)}/24=noisy", "--bind", f"{NEIGHBOUR.format(0)}/24=neighbour", *flags,
        )  # fmt: skip
        if files:
            command = ("prlimit", f"--nofile={files}:{files}", *command)
        with started(*command) as process:
            welcome = process.read_until(r"  Stop ")
            dns, api = re.search(r"addresses=127.0.0.1:(\d+)", process.errors), re.search(r"API +(\S+)", welcome)
            assert dns
            assert api
            token = (directory / "admin.token").read_text("ascii").strip()
            upstream = f"127.0.0.1:{silent.getsockname()[1]}"
            made = Installation(process, int(dns[1]), api[1], token, upstream)
            for environment in ("noisy", "neighbour"):
                made.client.put("environments", environment, body={})
                made.client.put("environments", environment, "services", "api", body={})
                made.client.put("environments", environment, "services", "api", "instances", "a1", body={})
            yield made
