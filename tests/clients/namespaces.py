"""Network namespaces joined as the product joins them: a host that has the resolver's address, and its workloads.

Each workload has a veth to the host, one address inside its environment's network, and a route to the platform's
prefix by the host's link-local address. All of it goes when the host is closed, and what a killed run left behind goes
when the next one begins.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

_PREFIX = "interlock-clients"
_NETNS = Path("/run/netns")
_CLONE_NEWNET = 0x40000000
_SO_RCVBUFFORCE = 33  # <asm/socket.h>
SO_TIMESTAMPNS = 35
_ETH_P_ALL = 3  # also what the host sends, which a filter on one protocol would not show
_CAPTURE_BUFFER = 32 << 20  # octets; 100 look-ups at once, over TCP, are some hundred kB

_HOST_LINK, _WORKLOAD_LINK = "fe80::1", "fe80::2"
_numbers = count()
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Namespace:
    """A network namespace. ``link`` is the host's end of a workload's veth."""

    name: str
    link: str = ""

    def enter(self) -> list[str]:
        """What to put before a command that is to run inside."""
        return ["nsenter", f"--net={_NETNS / self.name}", "--"]

    def call(self, function: Callable[[], T]) -> T:
        """What ``function`` returns when it is called inside; sockets that it makes stay inside."""
        result: list[T] = []
        errors: list[Exception] = []

        def run() -> None:
            # A thread of its own: a namespace is a thread's, and this one ends with it.
            try:
                with (_NETNS / self.name).open() as handle:
                    if _libc.setns(handle.fileno(), _CLONE_NEWNET):
                        raise OSError(ctypes.get_errno(), f"cannot enter the namespace {self.name}")
                result.append(function())
            except Exception as error:  # noqa: BLE001 handed over to the caller's thread
                errors.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        if errors:
            raise errors[0]
        return result[0]


class Host:
    """The namespace in which the server runs. It has ``addresses``; workloads are added by `workload`."""

    def __init__(self, addresses: tuple[str, ...]) -> None:
        self.namespace = _make("host")
        self._workloads: list[Namespace] = []
        self._links = count()
        self._lock = threading.Lock()
        own = [f"address add {address}/128 dev lo nodad" for address in addresses]
        _ip(self.namespace, ["link set lo up", *own])

    def workload(self, address: str, platform: str, local: tuple[str, ...]) -> Namespace:
        """A namespace with ``address`` and a way to ``platform`` (a prefix) by the host.

        Whatever is sent to a prefix in ``local`` ends in the namespace itself: a server there stands in for all of
        them. Every workload that is not asked to has no other way out.
        """
        with self._lock:
            link = f"w{next(self._links)}"
            space = _make("workload")
            self._workloads.append(space)
        peer = [f"link add {link} type veth peer name eth0 netns {space.name}", f"link set {link} addrgenmode none"]
        up = [f"address add {_HOST_LINK}/64 dev {link} nodad", f"link set {link} up"]
        back = [f"route add {address}/128 via {_WORKLOAD_LINK} dev {link}"]
        _ip(self.namespace, [*peer, *up, *back])
        _ip(
            space,
            [
                "link set lo up",
                "link set eth0 addrgenmode none",
                f"address add {_WORKLOAD_LINK}/64 dev eth0 nodad",
                f"address add {address}/128 dev eth0 nodad",
                "link set eth0 up",
                f"route add {platform} via {_HOST_LINK} dev eth0 src {address}",
                *(f"route add local {prefix} dev lo" for prefix in local),
            ],
        )
        return Namespace(space.name, link)

    def capture(self, link: str) -> socket.socket:
        """A socket that keeps all packets on the host's end of a workload's veth."""

        def open_socket() -> socket.socket:
            sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ETH_P_ALL))
            sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _CAPTURE_BUFFER)
            sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
            sock.bind((link, _ETH_P_ALL))
            sock.setblocking(False)
            return sock

        return self.namespace.call(open_socket)

    def close(self) -> None:
        """Removes every namespace."""
        for space in (*self._workloads, self.namespace):
            _delete(space.name)


@contextlib.contextmanager
def host(addresses: tuple[str, ...]) -> Iterator[Host]:
    """A host for the length of a with-statement."""
    made = Host(addresses)
    try:
        yield made
    finally:
        made.close()


def sweep() -> None:
    """Removes what runs left behind whose process is gone."""
    for path in _NETNS.glob(f"{_PREFIX}-*"):
        if not Path(f"/proc/{path.name.split('-')[2]}").exists():
            _delete(path.name)


def _make(kind: str) -> Namespace:
    name = f"{_PREFIX}-{os.getpid()}-{kind}-{next(_numbers)}"
    subprocess.run(["ip", "netns", "add", name], check=True, capture_output=True)
    return Namespace(name)


def _delete(name: str) -> None:
    subprocess.run(["ip", "netns", "delete", name], capture_output=True)


def _ip(space: Namespace, lines: list[str]) -> None:
    """Runs ``lines`` as one batch of ip(8) inside ``space``."""
    text = "".join(f"{line}\n" for line in lines)
    result = subprocess.run(["ip", "-n", space.name, "-batch", "-"], input=text, capture_output=True, text=True)
    if result.returncode:
        raise RuntimeError(f"ip in {space.name}: {result.stderr.strip()}\n{text}")
