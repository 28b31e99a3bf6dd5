"""A generic netlink family of the kernel: one socket, one request after the other, each with a deadline.

The socket blocks, so it is used in a thread. It belongs to the network namespace of the thread that created it.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from sys import byteorder

from agent.system.netlink_socket import ACK, DUMP, Interrupted, NetlinkRefused, NetlinkSocket, attributes, text

__all__ = ["GenericNetlink", "Interrupted", "NetlinkRefused"]

_GENERIC_PROTOCOL = 16  # NETLINK_GENERIC, which the socket module does not name
_CONTROLLER, _GET_FAMILY, _FAMILY_ID, _FAMILY_NAME = 0x10, 3, 1, 2  # linux/genetlink.h
_GENERIC = Struct("=BBxx")  # struct genlmsghdr: command, version


class GenericNetlink:
    """The family ``name`` in ``version``. Methods raise `NetlinkRefused`, and ``TimeoutError`` past the deadline.

    A deadline is a time of ``time.monotonic``, in seconds.
    """

    def __init__(self, name: str, version: int) -> None:
        self._version = version
        self._socket = NetlinkSocket(_GENERIC_PROTOCOL)
        self._name = name
        self._family = 0

    def close(self) -> None:
        """Closes the socket."""
        self._socket.close()

    def dump(self, command: int, body: bytes, deadline: float) -> list[bytes]:
        """The attributes of each message in the kernel's answer to ``command``. Raises `Interrupted`."""
        return list(self._ask(self._family_id(deadline), command, body, DUMP, deadline))

    def change(self, command: int, body: bytes, deadline: float) -> None:
        """Returns when the kernel has carried out ``command``."""
        for _ in self._ask(self._family_id(deadline), command, body, ACK, deadline):
            pass

    def _family_id(self, deadline: float) -> int:
        if not self._family:
            for answer in self._ask(_CONTROLLER, _GET_FAMILY, text(_FAMILY_NAME, self._name), ACK, deadline):
                if found := attributes(answer).get(_FAMILY_ID):
                    self._family = int.from_bytes(found, byteorder)
        return self._family

    def _ask(self, family: int, command: int, body: bytes, flags: int, deadline: float) -> Iterator[bytes]:
        generic = _GENERIC.pack(command, self._version)
        return (answer[_GENERIC.size :] for answer in self._socket.ask(family, flags, generic + body, deadline))
