"""A workload's link: a veth from the host into its network namespace, with one address and one way out.

Both ends know each other's MAC beforehand, so nobody has to ask for a neighbour: the first packet goes at once, and the
wall need not let any such question through. The host's end has no address; the gateway is a name for "that way".
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import IPv6Network
from pathlib import Path

from agent.attachment import Attachment
from agent.errors import Failed, Refused
from agent.system.namespaces import call_inside
from agent.system.netlink import Links

GATEWAY = "fe80::1"
_SYSCTLS = Path("/proc/sys/net/ipv6/conf")
_FORWARDING = Path("all/forwarding")


async def create_veth(host: Links, attachment: Attachment, namespace: int, prefix: IPv6Network, mtu: int) -> None:
    """Makes the link of ``attachment``, which has an address, into ``namespace``; what is there is made right.

    ``prefix`` is the platform's. Raises `Failed`, and `Refused` where a link of another's has the name.
    """
    mac, inside_mac = attachment.macs
    async with inside(namespace) as links:
        found = await links.describe(attachment.interface)
        if found is not None and found["mac"] != inside_mac:
            raise Refused(f"there is a link {attachment.interface} already in {attachment.netns}: choose another name")
        if found is None or not host.exists(attachment.link):
            # Half a pair, or one into a namespace that this instance lived in before.
            await host.remove(attachment.link)
            await host.add_pair(attachment.link, mac, attachment.interface, inside_mac, namespace, mtu)
        _set(attachment.link, "disable_ipv6", 0)
        await host.set_up(attachment.link, mtu)
        await call_inside(namespace, lambda: _set(attachment.interface, "disable_ipv6", 0))
        await links.set_up("lo", 65536)
        await links.set_up(attachment.interface, mtu)
        assert attachment.address is not None
        for other in (found or {}).get("addresses", ()):
            if other != str(attachment.address):
                await links.remove_address(attachment.interface, type(attachment.address).parse(other))
        await links.add_address(attachment.interface, attachment.address)
        await links.know(GATEWAY, mac, attachment.interface)
        await links.route(str(prefix), attachment.interface, GATEWAY, attachment.address)


async def remove_veth(host: Links, attachment: Attachment) -> bool:
    """Makes the link of ``attachment`` be gone, at both ends; False if it was."""
    return await host.remove(attachment.link)


async def find_faults(host: Links, attachment: Attachment, namespace: int, prefix: IPv6Network, mtu: int) -> list[str]:
    """What is not as `create_veth` made it, in words."""
    async with inside(namespace) as links:
        found = await links.describe(attachment.interface)
    if found is None:
        return [f"there is no link {attachment.interface} in {attachment.netns}"]
    wanted = {
        "mac": attachment.macs[1],
        "mtu": mtu,
        "up": True,
        "addresses": [str(attachment.address)],
        "routes": [str(prefix)],
    }
    faults = [
        f"{attachment.interface}: {name} is {found[name]}, not {value}"
        for name, value in wanted.items()
        if found[name] != value
    ]
    if not host.exists(attachment.link):
        faults.append(f"there is no link {attachment.link} on the host")
    return faults


@asynccontextmanager
async def inside(namespace: int) -> AsyncIterator[Links]:
    """The links inside ``namespace``."""
    links = Links(await call_inside(namespace, _netlink_socket))
    try:
        yield links
    finally:
        links.close()


def enable_forwarding() -> bool:
    """Lets this host pass packets on; False if it did already. Raises `Failed`.

    Linux takes it as one for the whole host: an interface that learns its routes from router advertisements must have
    ``accept_ra=2`` from then on.
    """
    path = _SYSCTLS / _FORWARDING
    try:
        if path.read_text().strip() == "1":
            return False
        path.write_text("1")
    except OSError as error:
        raise Failed(f"{path}: {error.strerror}: is IPv6 switched off on this host?") from None
    return True


def _netlink_socket() -> int:
    return socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE).detach()


def _set(link: str, name: str, value: int) -> None:
    path = _SYSCTLS / link / name
    try:
        path.write_text(str(value))
    except FileNotFoundError:
        return  # a kernel without the setting has nothing to be set
    except OSError as error:
        raise Failed(f"{path}: {error.strerror}: is /proc/sys writable for the agent?") from None
