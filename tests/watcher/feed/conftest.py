"""A feed of a test's own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from watcher.feed.protocol import SOCKET
from watcher.feed.server import FeedServer


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "agent" / SOCKET


@pytest_asyncio.fixture
async def server(path: Path) -> AsyncIterator[FeedServer]:
    server = FeedServer(path)
    await server.start()
    yield server
    await server.stop()
