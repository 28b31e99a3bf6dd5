"""A workload's link: a veth pair from the host into the workload's network namespace, with one address and one route.

Both ends have fixed MAC addresses and a neighbour entry for each other. So the first packet leaves at once, and the
firewall need not let neighbour discovery through. The host's end has no address: `GATEWAY` is only what the workload's
route and neighbour entry call it. It takes no part in ARP, has a filter of its own (`agent.plan.link_filter`), and
carries the key of its workload's attachment.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from ipaddress import IPv6Network
from itertools import count

from agent.errors import BadRequest, LinkGone, NotThere, Refused
from agent.plan.link_filter import LinkFilter
from agent.system.interior import Interior
from agent.system.link_filters import is_guarded, put_filter
from agent.system.namespaces import call_inside, entered, find_namespaces, is_own, opened
from agent.system.netlink import Links, owner_of
from agent.system.route_messages import NO_ARP, Link
from agent.system.sysctls import enable_ipv6
from zones.addresses import Address

LINK_PREFIX = "rail"  # what the names of the host's ends begin with; the firewall's rules and the agent know them by it
GATEWAY = "fe80::1"

_LINK_DIGITS = 11  # hexadecimal digits after the prefix: a link's name has at most 15 octets (IFNAMSIZ)
LOOPBACK = Address.parse("::1")


@dataclass(frozen=True, slots=True)
class Veth:
    """A workload's veth pair as it should be."""

    link: str
    """The name of the host's end."""
    mac: str
    """The MAC address of the host's end."""
    interface: str
    """The name of the workload's end."""
    interface_mac: str
    """The MAC address of the workload's end."""
    address: Address
    """The address of the workload's end."""
    netns: str
    """The path of the workload's network namespace, for error messages."""
    owner: str
    """The key of the workload's attachment. It is written on the host's end, which no other workload may then use."""


def link_names(key: str) -> Iterator[str]:
    """The names that the host's end of the veth of the workload ``key`` may have, in the order of preference.

    They are cut from hashes, so the first may be in use by another workload.
    """
    return (LINK_PREFIX + _digest(f"{key} {number}" if number else key)[:_LINK_DIGITS] for number in count())


def mac_addresses(key: str) -> tuple[str, str]:
    """The MAC addresses of the host's and of the workload's end: locally administered, and the same every time."""
    digest = _digest(key)
    tail = ":".join(digest[at : at + 2] for at in range(20, 30, 2))
    return f"06:{tail}", f"02:{tail}"


async def create_veth(
    host: Links, veth: Veth, interior: Interior, prefix: IPv6Network, mtu: int, wanted: LinkFilter | None
) -> None:
    """Creates ``veth`` into the namespace of ``interior``; one that exists is corrected instead.

    ``prefix`` is the platform's. ``wanted`` is the filter of the link; None where the kernel can have none. Raises
    `Failed`, and `Refused` where a link of somebody else has the name.
    """
    if not may_use(host, veth.link, veth.owner):
        owner = host.owner(veth.link)
        raise Refused(
            f"the link {veth.link} belongs to {owner or 'another program'}: detach that one, and attach again"
        )
    links, namespace = interior.links, interior.namespace
    found = links.describe(veth.interface)
    if found is not None and found["mac"] != veth.interface_mac:
        if _workload_end(host, veth.link, links, namespace) != veth.interface:
            raise Refused(f"there is a link {veth.interface} already in {veth.netns}: choose another name")
        links.set_mac(veth.interface, veth.interface_mac)
    here = host.find(veth.link)
    # The kernel takes IPv6 off a link whose MTU is too small for it, and all that is set for IPv6 with it.
    is_new = found is None or here is None or min(found["mtu"], here.mtu) < Links.LEAST_MTU
    if is_new:
        # Half a pair, or a pair into a namespace that this instance lived in before.
        host.remove(veth.link)
        if found is not None:
            links.remove(veth.interface)  # somebody has given the host's end another name
        host.add_veth(veth.link, veth.mac, veth.interface, veth.interface_mac, namespace, mtu)
    if is_new or _differs(here, veth):
        host.set_owner(veth.link, veth.owner, veth.mac)
    # Before the link is up: from its first packet on, it carries nothing but its own environment's.
    if wanted and (is_new or not is_guarded(host, veth.link, wanted)):
        put_filter(host, veth.link, wanted)
    enable_ipv6(veth.link)
    host.set_up(veth.link, mtu)
    if not (is_new and interior.has_ipv6):
        await call_inside(namespace, lambda: enable_ipv6(veth.interface, "lo"))
    _set_up_inside(links, veth, prefix, mtu, found["addresses"] if found and not is_new else ())


def _set_up_inside(links: Links, veth: Veth, prefix: IPv6Network, mtu: int, addresses: Iterable[str]) -> None:
    """Makes the workload's end of ``veth``, which has ``addresses`` now, as it should be, and its loopback."""
    with links.together():
        links.set_up("lo", 65536)
        # musl asks for AAAA records only where it can bind ::1 (AI_ADDRCONFIG), and Docker before 26 takes it away.
        links.add_address("lo", LOOPBACK)
        links.set_up(veth.interface, mtu)
        for other in addresses:
            if other != f"{veth.address}/128":
                address, _, bits = other.partition("/")
                links.remove_address(veth.interface, Address.parse(address), int(bits))
        links.add_address(veth.interface, veth.address)
        links.set_neighbour(GATEWAY, veth.mac, veth.interface)
        links.set_route(str(prefix), veth.interface, GATEWAY, veth.address)


def _differs(here: Link | None, veth: Veth) -> bool:
    """Whether the host's end of ``veth``, which is ``here``, is not as `Links.set_owner` makes it."""
    return here is None or owner_of(here) != veth.owner or here.mac != veth.mac or not here.flags & NO_ARP


def may_use(host: Links, link: str, owner: str) -> bool:
    """Whether ``link`` may be the one of the workload ``owner``: it is, or there is no such link."""
    if not host.exists(link):
        return True
    found = host.owner(link)
    if found:
        return found == owner
    # An earlier release did not write the owner on the link. Its MAC address tells the owner as well.
    described = host.describe(link)
    return described is None or described["mac"] == mac_addresses(owner)[0]


async def has_veth(veth: Veth, namespace: int) -> bool:
    """Whether the workload's end of ``veth`` is in ``namespace``."""
    async with inside(namespace) as links:
        found = links.describe(veth.interface)
    return found is not None and found["mac"] == veth.interface_mac


async def find_faults(
    host: Links, veth: Veth, namespace: int, prefix: IPv6Network, mtu: int, wanted: LinkFilter | None
) -> list[str]:
    """What is not as `create_veth` made it with the same arguments, each fault as a text."""
    async with inside(namespace) as links:
        found = links.describe(veth.interface)
        has_loopback = links.has_address("lo", str(LOOPBACK))
        gateway_mac = links.neighbour(GATEWAY, veth.interface)
    if found is None:
        return [f"there is no link {veth.interface} in {veth.netns}"]
    expected = {
        "mac": veth.interface_mac,
        "mtu": mtu,
        "up": True,
        "addresses": [f"{veth.address}/128"],
        "routes": [str(prefix)],
    }
    faults = [
        f"{veth.interface}: {name} is {is_so}, not {expected[name]}"
        for name, is_so in found.items()
        if is_so != expected[name]
    ]
    if not has_loopback:
        faults.append(f"lo: {LOOPBACK} is missing")
    if gateway_mac != veth.mac:
        faults.append(f"{veth.interface}: the neighbour {GATEWAY} is {gateway_mac or 'missing'}, not {veth.mac}")
    here = host.find(veth.link)
    if here is None:
        return [*faults, f"there is no link {veth.link} on the host"]
    if (owner := owner_of(here)) != veth.owner:
        faults.append(f"{veth.link}: it says that it belongs to {owner or 'nobody'}, not to {veth.owner}")
    if here.mac != veth.mac:
        faults.append(f"{veth.link}: mac is {here.mac}, not {veth.mac}")
    if here.mtu != mtu:
        faults.append(f"{veth.link}: mtu is {here.mtu}, not {mtu}")
    if not here.flags & NO_ARP:
        faults.append(f"{veth.link}: ARP is switched on")
    if wanted and not is_guarded(host, veth.link, wanted):
        faults.append(f"{veth.link}: the filter of the link is missing, or is another one")
    return faults


def find_workload_end(host: Links, link: str) -> tuple[str, str] | None:
    """The path of the namespace that the other end of ``link`` is in, and its name; None where no path leads to it.

    It enters one namespace after the other, and so it is called aside.
    """
    for path in find_namespaces():
        try:
            with opened(path) as namespace:
                if is_own(namespace):
                    continue
                with entered(namespace):
                    links = Links()
                with closing(links):
                    if name := _workload_end(host, link, links, namespace):
                        return path, name
        except (NotThere, BadRequest, OSError):
            continue  # it ended meanwhile
    return None


def _workload_end(host: Links, link: str, links: Links, namespace: int) -> str | None:
    """The name that the other end of ``link`` has in ``namespace``, whose links are ``links``; None where it is not.

    It is the kernel that says so. What a link says of itself, such as its MAC address, a workload can make up.
    """
    try:
        number, index = host.peer_namespace(link), host.peer_index(link)
    except LinkGone:
        return None
    # -1 is no number: the namespace is going, and this one knows it by none, nor any that it has no link to.
    if number is None or number < 0 or index is None or host.namespace_number(namespace) != number:
        return None
    return links.name(index)


@asynccontextmanager
async def inside(namespace: int) -> AsyncIterator[Links]:
    """The links inside ``namespace``."""
    with closing(await call_inside(namespace, Links)) as links:
        yield links


def _digest(key: str) -> str:
    return hashlib.blake2b(key.encode(), digest_size=16).hexdigest()
