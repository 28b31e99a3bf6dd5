"""Network namespaces of workloads: opened by path, and entered by a thread that lives for one call."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import fcntl
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from agent.errors import BadRequest, NotThere

_CLONE_NEWNET = 0x40000000  # <linux/sched.h>
_NS_GET_NSTYPE = 0xB703  # <linux/nsfs.h>

T = TypeVar("T")

_libc = ctypes.CDLL(None, use_errno=True)


@contextmanager
def opened(path: str) -> Iterator[int]:
    """A descriptor of the network namespace at ``path``. Raises `NotThere` and `BadRequest`."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise NotThere(f"there is no network namespace at {path}: {error.strerror}") from None
    try:
        if not _is_network_namespace(descriptor):
            raise BadRequest(f"{path} is not a network namespace: name one such as /run/netns/NAME or /proc/PID/ns/net")
        yield descriptor
    finally:
        os.close(descriptor)


def is_own(namespace: int) -> bool:
    """Whether ``namespace`` is the one that the agent runs in: the host's."""
    ours = os.stat("/proc/thread-self/ns/net")
    theirs = os.fstat(namespace)
    return (ours.st_dev, ours.st_ino) == (theirs.st_dev, theirs.st_ino)


async def call_inside(namespace: int, function: Callable[[], T]) -> T:
    """The result of ``function``, called inside ``namespace``; sockets that it makes stay in that namespace."""
    # A thread of its own, not one of a pool: a thread stays in the namespace that it has entered.
    loop, result = asyncio.get_running_loop(), asyncio.get_running_loop().create_future()

    def set_outcome(outcome: T | None, failure: BaseException | None) -> None:
        if result.cancelled():
            return
        if failure is None:
            result.set_result(outcome)
        else:
            result.set_exception(failure)

    def run() -> None:
        outcome, failure = None, None
        try:
            if _libc.setns(namespace, _CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "cannot enter the network namespace")
            outcome = function()
        except Exception as error:  # noqa: BLE001 raised again where the result is awaited
            failure = error
        loop.call_soon_threadsafe(set_outcome, outcome, failure)

    threading.Thread(target=run, name="inside", daemon=True).start()
    found: T = await result
    return found


def _is_network_namespace(descriptor: int) -> bool:
    try:
        return fcntl.ioctl(descriptor, _NS_GET_NSTYPE) == _CLONE_NEWNET
    except OSError as error:
        if error.errno in (errno.ENOTTY, errno.EINVAL):
            return False
        raise
