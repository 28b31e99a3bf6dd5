"""Network namespaces joined as the product joins them: a host that has the resolver's address, and its workloads.

Each workload has a veth to the host, one address inside its environment's network, and a route to the platform's
prefix by the host's link-local address. All of it goes when the host is closed, and what a killed run left behind goes
when the next one begins.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

from tests import namespaces
from tests.namespaces import Namespace

_PREFIX = "interlock-clients"
_HOST_LINK, _WORKLOAD_LINK = "fe80::1", "fe80::2"


@dataclass(frozen=True, slots=True)
class Workload(Namespace):
    """Where a client runs. ``link`` is the host's end of its veth."""

    link: str


class Host:
    """The namespace in which the server runs. It has ``addresses``; workloads are added by `workload`."""

    def __init__(self, addresses: tuple[str, ...]) -> None:
        self.namespace = namespaces.make(_PREFIX, "host")
        self._workloads: list[Namespace] = []
        self._links = count()
        self._lock = threading.Lock()
        own = [f"address add {address}/128 dev lo nodad" for address in addresses]
        self.namespace.ip(["link set lo up", *own])

    def workload(self, address: str, platform: str, local: tuple[str, ...]) -> Workload:
        """A namespace with ``address`` and a way to ``platform`` (a prefix) by the host.

        Whatever is sent to a prefix in ``local`` ends in the namespace itself: a server there stands in for all of
        them. Every workload that is not asked to has no other way out.
        """
        with self._lock:
            link = f"w{next(self._links)}"
            space = namespaces.make(_PREFIX, "workload")
            self._workloads.append(space)
        peer = [f"link add {link} type veth peer name eth0 netns {space.name}", f"link set {link} addrgenmode none"]
        up = [f"address add {_HOST_LINK}/64 dev {link} nodad", f"link set {link} up"]
        back = [f"route add {address}/128 via {_WORKLOAD_LINK} dev {link}"]
        self.namespace.ip([*peer, *up, *back])
        space.ip(
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
        return Workload(space.name, link)

    def capture(self, link: str) -> socket.socket:
        """A socket that keeps all packets, with their time, on the host's end of a workload's veth."""
        return namespaces.capture(self.namespace, link, socket.SOCK_DGRAM)

    def close(self) -> None:
        """Removes every namespace."""
        for space in (*self._workloads, self.namespace):
            space.remove()


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
    namespaces.sweep(_PREFIX)
