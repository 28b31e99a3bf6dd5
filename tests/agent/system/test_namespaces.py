"""What tells a network namespace from all others, also from a later one with its path and its inode."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from pathlib import Path

from agent.system.namespaces import NamespaceId, identify, opened
from tests.namespaces import Namespace

DEADLINE = 60.0  # seconds


def identity(path: Path | str) -> NamespaceId:
    with opened(str(path)) as namespace:
        return asyncio.run(identify(namespace))


def test_a_namespace_is_the_same_by_every_path(space: Namespace) -> None:
    process = subprocess.Popen([*space.enter(), "sleep", "60"], stdin=subprocess.DEVNULL)
    try:
        by_process = f"/proc/{process.pid}/ns/net"
        deadline = time.monotonic() + DEADLINE
        while os.stat(by_process).st_ino != os.stat(space.path).st_ino:
            assert time.monotonic() < deadline
        assert identity(by_process) == identity(space.path)
    finally:
        process.kill()
        process.wait()
    assert identity("/proc/self/ns/net") != identity(space.path)


def test_one_that_has_its_path_and_its_inode_is_another(space: Namespace) -> None:
    before = identity(space.path)
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline:
        space.remove()
        subprocess.run(["ip", "netns", "add", space.name], check=True, capture_output=True)
        after = identity(space.path)
        assert after != before
        if (after.device, after.inode) == (before.device, before.inode):
            return  # the kernel gave the inode again: it takes some milliseconds until that is free
    raise AssertionError("the kernel does not give an inode again: is the cookie still needed?")
