"""Network namespaces of workloads: opened by path, told apart, and entered by a thread that lives for one call."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import socket
import stat
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TypeVar

from msgspec import Struct

from agent.errors import BadRequest, NotThere
from agent.system.aside import call_aside

_CLONE_NEWNET = 0x40000000  # <linux/sched.h>
_NS_GET_NSTYPE = 0xB703  # <linux/nsfs.h>
_SO_NETNS_COOKIE = 71  # <asm-generic/socket.h>
_PLACES = ("run/netns/*", "run/docker/netns/*", "proc/[0-9]*/ns/net")  # where runtimes and processes show theirs
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

OWN_NAMESPACE = "/proc/thread-self/ns/net"  # the network namespace that the agent runs in: the host's

T = TypeVar("T")

_libc = ctypes.CDLL(None, use_errno=True)


class NamespaceId(Struct, frozen=True):
    """What tells a network namespace from every other one, also from a later one at its path."""

    boot: str
    """The kernel's boot id: the numbers below count for one boot."""
    device: int
    """The device of the namespace's file."""
    inode: int
    """The inode of the namespace's file. The kernel gives it again as soon as the namespace is gone."""
    cookie: int
    """The namespace's cookie, which is never given again; 0 where the kernel has none (Linux before 5.14)."""


@contextmanager
def opened(path: str) -> Iterator[int]:
    """A descriptor of the network namespace at ``path``. Raises `NotThere` and `BadRequest`."""
    try:
        descriptor = _open(path)
    except OSError as error:
        raise NotThere(f"there is no network namespace at {path}: {error.strerror}") from None
    if descriptor is None:
        raise BadRequest(f"{path} is not a network namespace: name one such as /run/netns/NAME or /proc/PID/ns/net")
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def find_namespaces() -> list[str]:
    """A path to each network namespace that a name or a process leads to; names come before processes."""
    found: dict[tuple[int, int], str] = {}
    for pattern in _PLACES:
        for path in sorted(Path("/").glob(pattern)):
            try:
                status = path.stat()
            except OSError:
                continue  # the process has ended
            found.setdefault((status.st_dev, status.st_ino), str(path))
    return list(found.values())


def is_own(namespace: int) -> bool:
    """Whether ``namespace`` is the one that the agent runs in: the host's."""
    ours = os.stat(OWN_NAMESPACE)
    theirs = os.fstat(namespace)
    return (ours.st_dev, ours.st_ino) == (theirs.st_dev, theirs.st_ino)


async def identify(namespace: int) -> NamespaceId:
    """What tells ``namespace``, a descriptor, from every other network namespace. Raises ``OSError``."""
    return await call_inside(namespace, lambda: identify_entered(namespace))


def identify_entered(namespace: int) -> NamespaceId:
    """Like `identify`, in a thread that is inside ``namespace``."""
    found = os.fstat(namespace)
    return NamespaceId(_boot(), found.st_dev, found.st_ino, _cookie())


async def call_inside(namespace: int, function: Callable[[], T]) -> T:
    """The result of ``function``, called inside ``namespace``; sockets that it makes stay in that namespace."""

    def call() -> T:
        with entered(namespace):
            return function()

    return await call_aside(call)


@contextmanager
def entered(namespace: int) -> Iterator[None]:
    """Has this thread, which is one of `call_aside`, inside ``namespace`` meanwhile. Raises ``OSError``."""
    before = os.open(OWN_NAMESPACE, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _enter(namespace)
        try:
            yield
        finally:
            _enter(before)
    finally:
        os.close(before)


def _enter(namespace: int) -> None:
    if _libc.setns(namespace, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "cannot enter the network namespace")


@cache
def _boot() -> str:
    """The boot id, which is the same as long as this process lives."""
    return _BOOT_ID.read_text().strip()


def _cookie() -> int:
    """The cookie of the network namespace that this thread is in; 0 where the kernel has none."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        try:
            (cookie,) = struct.unpack("=Q", sock.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8))
        except OSError as error:
            if error.errno == errno.ENOPROTOOPT:
                return 0
            raise
    return int(cookie)


def _open(path: str) -> int | None:
    """A descriptor of the network namespace at ``path``; None where there is something else. Raises ``OSError``."""
    # To open a FIFO waits for its other end, and to open a device can do anything. So it is looked at before it is
    # opened, through a descriptor that does neither, and then that very file is opened.
    place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(place).st_mode):
            return None
        descriptor = os.open(f"/proc/self/fd/{place}", os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    finally:
        os.close(place)
    try:
        is_one = _is_network_namespace(descriptor)
    except OSError:
        os.close(descriptor)
        raise
    if is_one:
        return descriptor
    os.close(descriptor)
    return None


def _is_network_namespace(descriptor: int) -> bool:
    try:
        return fcntl.ioctl(descriptor, _NS_GET_NSTYPE) == _CLONE_NEWNET
    except OSError as error:
        if error.errno in (errno.ENOTTY, errno.EINVAL):
            return False
        raise
