"""WireGuard devices, a backend a module: the kernel's through netlink, and wireguard-go's through its socket.

Where a new backend goes: a module here whose class does what `device.Device` says, a line in `choose`, a choice of the
setting ``--wireguard``, and a parameter of tests/agent/system/wireguard/test_devices.py, which all backends must pass.
"""

from __future__ import annotations

from agent.system.netlink import Links
from agent.system.wireguard.device import Device
from agent.system.wireguard.kernel import Kernel
from agent.system.wireguard.userspace import Userspace


async def choose(backend: str, name: str, links: Links) -> Device:
    """The device ``name`` by ``backend``: ``kernel``, ``userspace``, or ``auto``: the kernel's where it has WireGuard.

    With ``auto``, a device that exists keeps its backend: to replace it would end its sessions.
    """
    kind = links.kind(name)
    if backend == "auto" and kind is not None:
        backend = "kernel" if kind == "wireguard" else "userspace"
    if backend == "userspace" or (backend == "auto" and not links.add_wireguard(name, Links.LEAST_MTU)):
        return Userspace(name, links)
    return Kernel(name, links)
