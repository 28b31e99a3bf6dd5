"""What an attach uses inside a workload's network namespace. It is entered once for all of it.

To enter a namespace takes a thread of its own, and where the interpreter is busy the hand-over to a thread and back
takes longer than what it does.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from agent.system.namespaces import NamespaceId, call_inside, identify_entered
from agent.system.netlink import Links
from agent.system.sysctls import NEW_LINKS, has_ipv6


@dataclass(frozen=True, slots=True)
class Interior:
    """A network namespace of a workload, from inside."""

    namespace: int
    """A descriptor of it."""
    id: NamespaceId
    """What tells it from every other one."""
    links: Links
    """The links in it."""
    udp: socket.socket
    """A socket in it, which does not block."""
    has_ipv6: bool
    """Whether IPv6 is on for its loopback, and will be for each link that is added."""

    def close(self) -> None:
        """Closes what is open in it, but for the descriptor."""
        self.links.close()
        self.udp.close()


@asynccontextmanager
async def interior(namespace: int) -> AsyncIterator[Interior]:
    """The interior of ``namespace``, a descriptor. Raises ``OSError``."""

    def look() -> Interior:
        udp = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        return Interior(namespace, identify_entered(namespace), Links(), udp, has_ipv6(NEW_LINKS, "lo"))

    found = await call_inside(namespace, look)
    try:
        yield found
    finally:
        found.close()
