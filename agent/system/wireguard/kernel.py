"""WireGuard in the kernel, through generic netlink: `messages` writes and reads the messages that this sends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from errno import EADDRINUSE, ENODEV, ENOENT, EOPNOTSUPP
from typing import TypeVar

from agent.errors import Failed, PortInUse
from agent.keys import PrivateKey
from agent.plan.peers import PeerStep, Tunnel
from agent.system.deadline import SYSTEM_DEADLINE, stuck
from agent.system.generic_netlink import GenericNetlink, Interrupted, NetlinkRefused
from agent.system.netlink import Links
from agent.system.udp_ports import describe_port_in_use
from agent.system.wireguard import messages

FAMILY, VERSION = "wireguard", 1
GET_DEVICE, SET_DEVICE = 0, 1  # enum wg_cmd
PART = "netlink (WireGuard)"

T = TypeVar("T")


class Kernel:
    """The device ``name``. ``links`` adds, finds and removes its link.

    Each call takes one socket and one thread: the kernel's calls block, and with thousands of peers for long.
    """

    kind = "kernel"

    def __init__(self, name: str, links: Links) -> None:
        self._name = name
        self._links = links
        self._reader = messages.TunnelReader()

    async def ensure(self, key: PrivateKey, port: int, mtu: int) -> None:
        if not self._links.exists(self._name) and not self._links.add_wireguard(self._name, mtu):
            raise Failed("the kernel has no WireGuard: load its module, or set --wireguard userspace")
        actual = await self.read()
        if actual is None or (actual.public_key, actual.port) != (key.public, port):
            try:
                await self._change(messages.write_device(self._name, key, port))
            except PortInUse:
                raise Failed(await asyncio.to_thread(describe_port_in_use, port)) from None
        try:
            self._links.set_up(self._name, mtu)  # which is when the kernel binds the port
        except PortInUse:
            raise Failed(await asyncio.to_thread(describe_port_in_use, port)) from None

    async def read(self) -> Tunnel | None:
        if not self._links.exists(self._name):
            return None

        def read(netlink: GenericNetlink, deadline: float) -> Tunnel:
            while True:
                try:
                    dump = netlink.dump(GET_DEVICE, messages.write_device(self._name), deadline)
                except Interrupted:
                    continue
                return self._reader.read(dump)

        return await self._call(read)

    async def apply(self, steps: Sequence[PeerStep]) -> None:
        if steps:
            await self._change(*messages.write_peers(self._name, steps))

    async def set_key(self, key: PrivateKey) -> None:
        await self._change(messages.write_device(self._name, key))

    async def remove(self) -> None:
        self._links.remove(self._name)

    async def _change(self, *changes: bytes) -> None:
        def change(netlink: GenericNetlink, deadline: float) -> None:
            for attributes in changes:
                netlink.change(SET_DEVICE, attributes, deadline)

        await self._call(change)

    async def _call(self, work: Callable[[GenericNetlink, float], T]) -> T:
        netlink = GenericNetlink(FAMILY, VERSION)  # made here: the socket belongs to this thread's network namespace

        def work_and_close() -> T:
            with closing(netlink):
                return work(netlink, time.monotonic() + SYSTEM_DEADLINE)

        try:
            return await asyncio.to_thread(work_and_close)
        except TimeoutError:
            raise stuck(PART) from None
        except NetlinkRefused as error:
            if error.errno in (ENODEV, ENOENT, EOPNOTSUPP):
                raise Failed(
                    f"{self._name} is not a WireGuard device of the kernel: remove the link that has its name"
                ) from error
            if error.errno == EADDRINUSE:
                raise PortInUse(f"WireGuard device {self._name}: {error.strerror}") from error
            raise Failed(f"WireGuard device {self._name}: the kernel says: {error.strerror}") from error
        except ValueError as error:
            raise Failed(f"WireGuard device {self._name}: the kernel's answer cannot be read: {error}") from error
