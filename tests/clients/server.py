"""The server that the clients meet: `interlock up` with the environments of `world`, inside a host's namespace.

    python -m tests.clients.server [FAULT]

With the name of a fault (see `faults`) a relay that is wrong on purpose stands before it. "ready" on standard output
says that it answers; it ends when standard input does, so it never outlives who started it.
"""

from __future__ import annotations

import asyncio
import ctypes
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from msgspec.structs import replace

from resolver.client import ask
from resolver.errors import AskError
from store.errors import StoreError
from store.store import Store
from tests.clients import faults, upstream, world
from tests.worlds import PRODUCTION
from zones.model import Environment
from zones.names import Name
from zones.records import RRType

_UPSTREAM = ("127.0.0.1", 5301)
_BEHIND_THE_RELAY = ("::1", 5353)
_START_DEADLINE = 30.0  # seconds, on a machine that is busy with other tests
_END_DEADLINE = 10.0
_PR_SET_PDEATHSIG = 1


async def serve(fault: str | None) -> None:
    await upstream.start(*_UPSTREAM)
    listen = _BEHIND_THE_RELAY if fault else (world.RESOLVER, 53)
    with tempfile.TemporaryDirectory(prefix="interlock-clients-") as directory:
        async with _product(listen, Path(directory)):
            await _fill(Path(directory) / "store.sock")
            await _wait_until_known(_BEHIND_THE_RELAY if fault else ("::1", 53))
            if fault:
                await faults.start(fault, _BEHIND_THE_RELAY)
            print("ready", flush=True)
            await asyncio.to_thread(sys.stdin.read)


@asynccontextmanager
async def _product(listen: tuple[str, int], state: Path) -> AsyncIterator[None]:
    """`interlock up` that listens on ``listen``; who asks from ``::1``, as we do, belongs to production."""
    command = [
        sys.executable, "-m", "interlock", "up", "--state-dir", str(state),
        "--dns-listen", f"[{listen[0]}]:{listen[1]}", "--upstream", f"{_UPSTREAM[0]}:{_UPSTREAM[1]}",
        "--bind", f"::1/128={PRODUCTION}",
    ]  # fmt: skip
    if listen[0] == world.RESOLVER:
        command += ["--dns-listen", "[::1]:53"]
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, preexec_fn=_end_with_parent
    )
    try:
        yield
    finally:
        process.terminate()
        async with asyncio.timeout(_END_DEADLINE):
            await process.wait()


async def _fill(sock: Path) -> None:
    """Commits the environments, as soon as there is a store; production last, for that one is waited for."""
    store = Store(f"unix://{sock}")
    deadline = time.monotonic() + _START_DEADLINE
    try:
        for environment in (world.staging(), world.production()):
            await _commit(store, replace(environment, revision=1), deadline)
    finally:
        await store.close()


async def _commit(store: Store, environment: Environment, deadline: float) -> None:
    while True:
        try:
            return await store.environments.commit(environment, 0)
        except StoreError:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.05)


async def _wait_until_known(server: tuple[str, int]) -> None:
    """Returns when the server answers from what was committed."""
    qname = Name.parse(f"api.{world.SUFFIX}")
    deadline = time.monotonic() + _START_DEADLINE
    while True:
        try:
            answer = await asyncio.to_thread(ask, server, qname, RRType.AAAA)
            if answer.rcode == "NOERROR" and answer.records:
                return
        except AskError:
            pass  # it does not listen yet
        if time.monotonic() > deadline:
            raise TimeoutError("the server does not know what was committed")
        await asyncio.sleep(0.05)


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1] if len(sys.argv) > 1 else None))
