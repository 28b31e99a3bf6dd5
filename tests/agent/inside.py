"""Running the agent's parts inside a network namespace that the test made, for real."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Coroutine, Iterator
from typing import Any, TypeVar

import pytest

from tests import namespaces
from tests.namespaces import Namespace

T = TypeVar("T")

PREFIX = "interlock-agent"


def why_not(*commands: str) -> str:
    """What keeps this machine from it; empty if nothing does."""
    if os.getuid() != 0:
        return "not root, and network namespaces need it"
    missing = [
        one for one in ("ip", *commands) if not shutil.which(one, path=f"{os.environ.get('PATH')}:/usr/sbin:/sbin")
    ]
    return f"not installed: {', '.join(missing)} (tests/setup installs them)" if missing else ""


def run(space: Namespace, main: Coroutine[Any, Any, T]) -> T:
    """What ``main`` gives, run in a loop of its own inside ``space``."""
    return space.call(lambda: asyncio.run(main))


@pytest.fixture
def space() -> Iterator[Namespace]:
    """An empty network namespace."""
    if reason := why_not():
        pytest.skip(reason)
    namespaces.sweep(PREFIX)
    made = namespaces.make(PREFIX, "host")
    yield made
    made.remove()
