"""A resolver with two workers as a process, the agent that it follows, and queries to it."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from resolver.wire.upstream_messages import pack_query
from tests.interlock.processes import DEADLINE, Running, get, started
from tests.worlds import build
from watcher.feed.protocol import SOCKET
from watcher.feed.server import FeedServer
from zones.edits import Edit, PutInstance, PutService, apply
from zones.model import Environment
from zones.names import Name
from zones.records import RRType

SHOP = build("shop", 1, PutService("api"), PutInstance("api", "a1"))
API = Name.parse("api.railway.internal")
LOAD = 3000  # queries of one test's load
AT_ONCE = 50  # queries on their way


@dataclass(frozen=True, slots=True)
class Resolver:
    """A resolver with two workers, and the agent that it follows."""

    process: Running
    agent: FeedServer

    def events(self, name: str) -> list[dict[str, object]]:
        lines = [line for line in self.process.errors.rpartition("\n")[0].splitlines() if line.startswith("{")]
        return [line for line in map(json.loads, lines) if line["event"] == name]

    @property
    def address(self) -> tuple[str, int]:
        host, _, port = str(self.events("dns_listening")[0]["addresses"][0]).rpartition(":")  # type: ignore[index]
        return host.strip("[]"), int(port)

    @property
    def workers(self) -> list[int]:
        """The workers of the program that answers."""
        return self.events("workers_serving")[-1]["workers"]  # type: ignore[return-value]

    async def get(self, path: str) -> str:
        return (await asyncio.to_thread(get, f"http://{self.events('http_listening')[-1]['address']}{path}"))[1]

    async def metric(self, name: str, labels: str = "") -> float:
        """The sum of the series ``name`` with ``labels``."""
        series = rf"^{name}(?:\{{.*{labels}.*\}})? (\S+)$"
        found = re.findall(series, await self.get("/metrics"), re.MULTILINE)
        return sum(map(float, found))

    async def publish(self, environment: Environment) -> None:
        self.agent.announce(environment)
        await self.agent.publish(environment)


@asynccontextmanager
async def resolver(
    tmp_path: Path,
    *flags: str,
    environ: dict[str, str] | None = None,
    listen: str = "127.0.0.1:0",
    ends_by: signal.Signals = signal.SIGTERM,
    workers: Sequence[str] = ("--workers", "2"),
    executable: str = sys.executable,
    operations: Sequence[str] = ("--ops-listen", "127.0.0.1:0"),
) -> AsyncIterator[Resolver]:
    agent = FeedServer(tmp_path / "agent" / SOCKET)
    await agent.start()
    agent.announce(SHOP)
    await agent.publish(SHOP)
    agent.loaded()
    command = (
        executable, "-P",  # not from the directory of this process, which has the code too
        "-m", "interlock", "resolver", "--agent-dir", str(tmp_path / "agent"), "--state-dir", str(tmp_path),
        "--dns-listen", listen, *operations,
        "--bind", "127.0.0.0/8=shop", "--bind", "::1=shop", "--upstream", "none",
        *workers, *flags,
    )  # fmt: skip
    with started(*command, environ=environ) as process:
        made = Resolver(process, agent)
        try:
            await started_soon(lambda: made.events("workers_serving") and made.events("ready"))
            yield made
            status = await asyncio.to_thread(process.end, ends_by)
            assert status == (0 if ends_by is signal.SIGTERM else -ends_by), process.errors
        except (AssertionError, TimeoutError):
            print(process.errors)
            raise
        finally:
            await agent.stop()


async def started_soon(condition: Callable[[], object]) -> None:
    """Returns when ``condition`` holds, which several programs must start for, one after the other."""
    async with asyncio.timeout(3 * DEADLINE):
        while not condition():  # noqa: ASYNC110 other processes
            await asyncio.sleep(0.01)


def client(server: tuple[str, int], kind: socket.SocketKind = socket.SOCK_DGRAM) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in server[0] else socket.AF_INET, kind)
    sock.setblocking(False)
    return sock


async def ask(server: tuple[str, int], name: Name = API, seconds: float = DEADLINE) -> int | None:
    """The rcode of the answer to a query from a new port; None where none comes."""
    reply = await exchange(server, name, seconds)
    return reply[3] & 15 if reply else None


async def exchange(server: tuple[str, int], name: Name = API, seconds: float = DEADLINE) -> bytes:
    """The answer to a query from a new port; empty where none comes."""
    loop = asyncio.get_running_loop()
    with client(server) as sock:
        await loop.sock_connect(sock, server)
        await loop.sock_sendall(sock, pack_query(7, name, RRType.AAAA))
        try:
            async with asyncio.timeout(seconds):
                return await loop.sock_recv(sock, 4096)
        except TimeoutError:
            return b""


async def ask_many(server: tuple[str, int], number: int, name: Name = API) -> list[int | None]:
    return await asyncio.gather(*(ask(server, name) for _ in range(number)))


async def put_load(server: tuple[str, int], until_done: Callable[[], bool], seconds: float = DEADLINE) -> list[bool]:
    """Asks from many ports, at least `LOAD` times and until then; for each query whether it was answered."""
    answered: list[bool] = []

    async def one() -> None:
        while len(answered) < LOAD or not until_done():
            answered.append(await ask(server, seconds=seconds) == 0)

    await asyncio.gather(*(one() for _ in range(AT_ONCE)))
    return answered


def grown(*edits: Edit) -> Environment:
    return apply(SHOP, edits, 0)


async def has_answered(it: Resolver, number: int) -> bool:
    return await it.metric("interlock_queries_total") >= number


async def is_one(it: Resolver, name: str, value: float) -> bool:
    return await it.metric(name) == value


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def children(pid: int) -> str:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text()


def runs(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()
