"""What the agent needs of a WireGuard device, whichever backend it is made with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from agent.keys import PrivateKey
from agent.plan.peers import PeerStep, Tunnel


class Device(Protocol):
    """A WireGuard device. All methods raise `agent.errors.Failed`, and `Stuck` where there is no answer in time."""

    async def ensure(self, key: PrivateKey, port: int, mtu: int) -> None:
        """Creates the device where it is missing, sets what differs of key and port, and brings the link up.

        The peers and sessions of a device that exists already stay.
        """

    async def read(self) -> Tunnel | None:
        """The device as it is; None where there is none."""

    async def apply(self, steps: Sequence[PeerStep]) -> None:
        """Takes ``steps``, in this order."""

    async def set_key(self, key: PrivateKey) -> None:
        """Gives the device another private key; its peers stay."""

    async def remove(self) -> None:
        """Removes the device."""
