"""``kill -9`` of the parts that commit, at random moments while writers commit: no acknowledged write is lost.

``TEST_KILLS=200`` kills as often in each test (default 8).
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from statistics import median
from urllib.error import URLError

import pytest

from interlock.client import Client
from resolver.client import ask
from store.store import Store
from tests.faults.writers import Writer, make_writers, summary, writing
from tests.interlock.processes import DEADLINE, Running, get, interlock, started, stores_in, wait_until
from tests.store.reading import documents
from tests.store.servers import Server, StartServer, free_port
from tests.waiting import until
from zones import document
from zones.names import Name, check_environment_id
from zones.records import RRType

KILLS = int(os.environ.get("TEST_KILLS") or 8)  # in each test
LONGEST = 0.5  # seconds of writing until the next kill: some commits, or none
ENVIRONMENTS = ("one", "two", "three")
EACH = 2  # writers of one environment, which wait for each other or conflict
AOF = ("--appendonly", "yes", "--appendfsync", "always")


class Killed:
    """A command that is killed and started again, on the same ports."""

    def __init__(self, *command: str, api: int) -> None:
        self.url = f"http://127.0.0.1:{api}"
        self._command = command
        self._stack = ExitStack()

    def __enter__(self) -> Killed:
        self._start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def kill(self) -> None:
        self.process.end(signal.SIGKILL)
        self._stack.close()
        self._start()

    def _start(self) -> None:
        self.process: Running = self._stack.enter_context(started(*self._command))

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + DEADLINE
        while not is_ready(self.url):
            assert time.monotonic() < deadline, self.process.errors
            time.sleep(0.02)


@pytest.mark.timeout(60 + 20 * KILLS)
async def test_up_and_its_store(tmp_path: Path) -> None:
    dns, api = free_port(), free_port()
    command = interlock(
        "up", "--state-dir", str(tmp_path), "--dns-listen", f"127.0.0.1:{dns}", "--api-listen", f"127.0.0.1:{api}",
        "--upstream", "none", "--bind", f"127.0.0.1={ENVIRONMENTS[0]}", "--log-format", "json",
    )  # fmt: skip
    kills, pauses = Counter[str](), list[float]()
    with Killed(*command, api=api) as up:
        await asyncio.to_thread(up.wait_until_ready)
        writers = await asyncio.to_thread(make_writers, client_of(up.url, tmp_path), ENVIRONMENTS, EACH)
        with writing(writers):
            for _ in range(KILLS):
                await asyncio.sleep(random.uniform(0, LONGEST))
                killed = time.monotonic()
                if random.random() < 0.5 and (store := stores_in(tmp_path)):
                    os.kill(store[0], signal.SIGKILL)
                    kills["its store"] += 1
                else:
                    await asyncio.to_thread(up.kill)
                    kills["up"] += 1
                await asyncio.to_thread(up.wait_until_ready)
                pauses.append(await asyncio.to_thread(pause_after, killed, writers))
        await asyncio.to_thread(judge, writers, kills, pauses)
        await check_store(f"unix://{tmp_path}/store.sock")
        for writer in writers[:EACH]:  # those of the environment that this machine is bound to
            await asyncio.to_thread(wait_until, partial(is_answered, dns, writer))
        assert len(stores_in(tmp_path)) == 1
        up.process.end(signal.SIGKILL)
        await until(lambda: not stores_in(tmp_path))


@pytest.mark.timeout(60 + 20 * KILLS)
async def test_admin_and_its_store(tmp_path: Path, start_server: StartServer) -> None:
    server: Server = await start_server(*AOF)
    api = free_port()
    command = interlock(
        "admin", "--redis", server.url, "--state-dir", str(tmp_path), "--api-listen", f"127.0.0.1:{api}",
    )  # fmt: skip
    kills, pauses = Counter[str](), list[float]()
    with Killed(*command, api=api) as admin:
        await asyncio.to_thread(admin.wait_until_ready)
        writers = await asyncio.to_thread(make_writers, client_of(admin.url, tmp_path), ENVIRONMENTS, EACH)
        with writing(writers):
            for _ in range(KILLS):
                await asyncio.sleep(random.uniform(0, LONGEST))
                killed = time.monotonic()
                if random.random() < 0.5:
                    server.kill()
                    await server.start()
                    kills["its store"] += 1
                else:
                    await asyncio.to_thread(admin.kill)
                    kills["admin"] += 1
                await asyncio.to_thread(admin.wait_until_ready)
                pauses.append(await asyncio.to_thread(pause_after, killed, writers))
        await asyncio.to_thread(judge, writers, kills, pauses)
        await check_store(server.url)


async def test_a_store_that_keeps_nothing_is_found_out(tmp_path: Path, start_server: StartServer) -> None:
    """The negative control: the same writers, and a store that loses what it has acknowledged."""
    server: Server = await start_server("--appendonly", "no")
    api = free_port()
    listen = ("--state-dir", str(tmp_path), "--api-listen", f"127.0.0.1:{api}")
    with Killed(*interlock("admin", "--redis", server.url, *listen), api=api) as admin:
        await asyncio.to_thread(admin.wait_until_ready)
        writers = await asyncio.to_thread(make_writers, client_of(admin.url, tmp_path), ENVIRONMENTS[:1], EACH)
        with writing(writers):
            await until(lambda: all(writer.writes for writer in writers))
            server.kill()
            await server.start()
            await until(lambda: any(writer.faults for writer in writers))


def pause_after(killed: float, writers: Sequence[Writer]) -> float:
    """Seconds from ``killed`` until a write that was sent later is acknowledged."""
    wait_until(lambda: any(writer.sent_at > killed for writer in writers))
    return time.monotonic() - killed


def judge(writers: Sequence[Writer], kills: Counter[str], pauses: Sequence[float]) -> None:
    """All that was acknowledged is there, and nothing is there by halves."""
    for writer in writers:
        writer.check()
    print(
        f"killed: {dict(kills)}; {summary(writers)}; until the next write was acknowledged: {median(pauses):.2f} s,"
        f" at most {max(pauses):.2f} s"
    )
    assert [fault for writer in writers for fault in writer.faults] == []
    assert all(writer.writes for writer in writers), writers  # else nothing was tested


async def check_store(url: str) -> None:
    """Each line of the index is that of the document beside it."""
    store = Store(url)
    try:
        found = await documents(store, [check_environment_id(id_) for id_ in ENVIRONMENTS])
        for id_, (entry, written) in found.items():
            assert entry is not None, id_
            assert written is not None, id_
            assert (entry.revision, entry.digest) == (document.decode(written).revision, document.digest(written))
        assert set(found) == set(ENVIRONMENTS)
    finally:
        await store.close()


def is_answered(port: int, writer: Writer) -> bool:
    """Whether the newest number of ``writer`` is what clients are answered."""
    answer = ask(("127.0.0.1", port), Name.parse(f"{writer.name}-0.railway.internal"), RRType.TXT)
    return bool(answer.records) and answer.records[0].split()[-1] == f'"{writer.acknowledged}"'


def client_of(url: str, state: Path) -> Client:
    return Client(url, (state / "admin.token").read_text().strip())


def is_ready(url: str) -> bool:
    try:
        return get(f"{url}/readyz")[0] == 200
    except (URLError, OSError):
        return False
