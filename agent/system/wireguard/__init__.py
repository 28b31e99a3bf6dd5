"""WireGuard devices: the kernel's through netlink, or wireguard-go's through its socket. Both pass one test suite."""

from __future__ import annotations

from agent.system.netlink import Links
from agent.system.wireguard.kernel import Kernel
from agent.system.wireguard.userspace import Userspace


async def choose(backend: str, name: str, links: Links) -> Kernel | Userspace:
    """The device ``name`` by ``backend``: ``kernel``, ``userspace``, or ``auto`` for the kernel's where it has one.

    One that is there already is kept as what it is: to change over would end its sessions.
    """
    kind = await links.kind(name)
    if backend == "auto" and kind is not None:
        backend = "kernel" if kind == "wireguard" else "userspace"
    if backend == "userspace" or (backend == "auto" and not await links.make_tunnel(name, Links.LEAST_MTU)):
        return Userspace(name, links)
    return Kernel(name, links)
