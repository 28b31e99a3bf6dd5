"""The two installations under load: ``interlock up``, and a resolver with an admin API on a Redis."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import ClientError, ClientSession

from tests.interlock.processes import ROOT, stores_in
from tests.store.servers import free_port
from tests.waiting import scaled

READY_DEADLINE = scaled(60.0)  # seconds


@dataclass
class Installation:
    """The processes of one installation, and where they are reached."""

    name: str
    directory: Path
    dns: tuple[str, int]
    api: str
    """The URL of the admin API."""
    operations: tuple[str, ...]
    """The URLs below which ``/readyz`` and ``/metrics`` are."""
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    """By what they are called in the report; without an embedded store."""

    @property
    def state(self) -> Path:
        """The state directory with the token and the socket of the query log."""
        return self.directory / "state"

    @property
    def token(self) -> str:
        return (self.state / "admin.token").read_text().strip()

    def pids(self) -> dict[str, int]:
        """The process ids by what they are called in the report."""
        return {f"{self.name}: {name}": process.pid for name, process in self.processes.items()}

    def store_pid(self) -> int | None:
        """The process id of its store, while it runs."""
        raise NotImplementedError

    async def restart_store(self) -> None:
        """Has the store run again after it was killed."""
        raise NotImplementedError

    def start(self, name: str, command: Sequence[str]) -> None:
        with (self.directory / f"{name}.log").open("ab") as log:
            environ = {key: value for key, value in os.environ.items() if not key.startswith("INTERLOCK_")}
            self.processes[name] = subprocess.Popen(command, stdout=log, stderr=log, cwd=ROOT, env=environ)

    async def ready(self, session: ClientSession) -> None:
        for url in self.operations:
            async with asyncio.timeout(READY_DEADLINE):
                while not await _is_ready(session, url):  # noqa: ASYNC110 another process says it
                    await asyncio.sleep(0.1)

    def dead(self) -> list[str]:
        """What has ended that should run."""
        return [name for name, process in self.processes.items() if process.poll() is not None]

    def stop(self) -> None:
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


class Up(Installation):
    """``interlock up`` with its embedded store, which it starts again by itself."""

    def pids(self) -> dict[str, int]:
        store = self.store_pid()
        return super().pids() | ({f"{self.name}: store": store} if store else {})

    def store_pid(self) -> int | None:
        return next(iter(stores_in(self.state)), None)

    async def restart_store(self) -> None:
        return


class Separate(Installation):
    """A resolver and an admin API on a Redis."""

    def store_pid(self) -> int | None:
        process = self.processes["store"]
        return process.pid if process.poll() is None else None

    async def restart_store(self) -> None:
        self.processes["store"].wait()
        self.start("store", redis_command(self.directory))


def start_up(directory: Path, binds: Mapping[str, str], upstream: int) -> Up:
    directory.mkdir()
    dns, api = free_port(), free_port()
    url = f"http://127.0.0.1:{api}"
    up = Up("up", directory, ("127.0.0.1", dns), url, (url,))
    up.start(
        "up",
        _interlock(
            "up", "--state-dir", str(up.state), "--dns-listen", f"127.0.0.1:{dns}", "--api-listen", f"127.0.0.1:{api}",
            *_dns_options(binds, upstream), "--log-format", "json",
        ),
    )  # fmt: skip
    return up


def start_separate(directory: Path, binds: Mapping[str, str], upstream: int) -> Separate:
    directory.mkdir()
    dns, api, ops = free_port(), free_port(), free_port()
    url = f"http://127.0.0.1:{api}"
    made = Separate("separate", directory, ("127.0.0.1", dns), url, (url, f"http://127.0.0.1:{ops}"))
    store = ("--redis", f"unix://{directory / 'redis.sock'}", "--state-dir", str(made.state))
    made.start("store", redis_command(directory))
    made.start("admin", _interlock("admin", *store, "--api-listen", f"127.0.0.1:{api}"))
    made.start(
        "resolver",
        _interlock(
            "resolver", *store, "--dns-listen", f"127.0.0.1:{dns}", "--ops-listen", f"127.0.0.1:{ops}",
            *_dns_options(binds, upstream),
        ),
    )  # fmt: skip
    return made


def redis_command(directory: Path) -> list[str]:
    binary = shutil.which("redis-server")
    if binary is None:
        raise SystemExit("no redis-server on this machine: install the package redis-server")
    return [
        binary, "--port", "0", "--unixsocket", str(directory / "redis.sock"), "--dir", str(directory), "--save", "",
        "--appendonly", "yes", "--appendfsync", "always",
    ]  # fmt: skip


def signal_store(installation: Installation, number: signal.Signals) -> None:
    pid = installation.store_pid()
    if pid is not None:
        os.kill(pid, number)


def _interlock(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "interlock", *arguments]


def _dns_options(binds: Mapping[str, str], upstream: int) -> list[str]:
    options = ["--upstream", f"127.0.0.1:{upstream}"]
    for environment, source in binds.items():
        options += ["--bind", f"{source}/32={environment}"]
    return options


async def _is_ready(session: ClientSession, url: str) -> bool:
    try:
        async with session.get(f"{url}/readyz") as reply:
            return reply.status == 200
    except (ClientError, TimeoutError):
        return False
