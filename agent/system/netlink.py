"""Links, addresses, routes and neighbours: the adapter to pyroute2's rtnetlink, whose exceptions end here.

One `Links` works in one network namespace: the host's, or a workload's while it is being attached.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
import struct
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import asynccontextmanager, contextmanager
from errno import EADDRINUSE, EEXIST, ENODEV, ENOENT, ESRCH
from ipaddress import IPv6Network, ip_address
from typing import Any

from pyroute2 import AsyncIPRoute
from pyroute2.netlink.exceptions import NetlinkError

from agent.errors import Failed, LinkGone, PortInUse
from agent.plan.routes import Routes
from agent.system.deadline import answered_in_time, stuck
from agent.system.traffic_control import EGRESS, INGRESS, count_drops, read_label
from zones.addresses import Address

OURS = 105  # the routing protocol ("i") that marks the agent's routes; <linux/rtnetlink.h> gives it to nobody

_TUNNEL = 80  # octets added to each packet: IPv6 40, UDP 8, WireGuard 32 (wg-quick subtracts the same)
ETHERNET_TUNNEL_MTU = 1500 - _TUNNEL  # octets
_IFF_UP, _IFF_NOARP = 0x1, 0x80
_MADE_FOR = "interlock "  # what the alias of a workload's link begins with; the key of its attachment follows
_SIOCGIFINDEX, _SIOCGIFFLAGS = 0x8933, 0x8913  # <linux/sockios.h>; netdevice(7)
_IFREQ = struct.Struct("@16si20x")
_MAIN_TABLE = 254
_PERMANENT = 0x80  # NUD_PERMANENT
_NO_DAD = 0x02  # IFA_F_NODAD: nobody else has the address, so it is usable without duplicate address detection
_NO_ADDRESS_GENERATION = 1  # IN6_ADDR_GEN_MODE_NONE
_V6 = socket.AF_INET6


class Links:
    """The links of one network namespace. All methods raise `Failed`, and `Stuck` where the kernel does not answer."""

    LEAST_MTU = 1280  # octets; IPv6 has no smaller one (RFC 8200 §5)

    def __init__(self, descriptor: int | None = None) -> None:
        """``descriptor`` is a netlink socket made inside another namespace, which `close` closes; None for this one."""
        if descriptor is None:
            self._names = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, socket.NETLINK_ROUTE)
        else:
            self._names = socket.socket(fileno=os.dup(descriptor))
        # No groups: multicast notifications would fill a queue that nobody reads.
        self._netlink: Any = AsyncIPRoute(groups=0, fileno=descriptor)
        self._dumping = asyncio.Lock()

    def close(self) -> None:
        """Closes the sockets."""
        self._names.close()
        self._netlink.close()

    # Any link

    def exists(self, name: str) -> bool:
        """Whether there is a link ``name``."""
        return self._index(name) is not None

    def is_up(self, name: str) -> bool:
        """Whether there is a link ``name``, and it is up."""
        return bool((self._ask(_SIOCGIFFLAGS, name) or 0) & _IFF_UP)

    def named(self, prefix: str) -> list[str]:
        """The links of the host whose names begin with ``prefix``."""
        return [name for _, name in socket.if_nameindex() if name.startswith(prefix)]

    async def owner(self, name: str) -> str:
        """Whom the link ``name`` was made for, as `add_veth` wrote it on the link; empty where it does not tell."""
        async with _as_failed(f"link {name}", forgiving=(ENODEV,)):
            (link,) = await self._netlink.link("get", ifname=name)
            return _owner(link)
        return ""

    async def set_owner(self, name: str, owner: str) -> None:
        """Writes on the link ``name`` whom it was made for, and switches ARP off on it."""
        async with _as_failed(f"link {name}"):
            await self._netlink.link("set", index=self._require(name), ifalias=f"{_MADE_FOR}{owner}", arp=False)

    def has_arp(self, name: str) -> bool:
        """Whether the link ``name`` takes part in ARP and neighbour discovery."""
        return not (self._ask(_SIOCGIFFLAGS, name) or 0) & _IFF_NOARP

    async def set_up(self, name: str, mtu: int) -> None:
        """Brings ``name`` up with ``mtu``, and has the kernel make up no link-local address for it."""
        async with _as_failed(f"link {name}"):
            index = self._require(name)
            # In two steps: in one, the kernel would bring the link up first, and make up an address at once.
            await self._netlink.link(
                "set",
                index=index,
                IFLA_AF_SPEC={
                    "attrs": [["AF_INET6", {"attrs": [["IFLA_INET6_ADDR_GEN_MODE", _NO_ADDRESS_GENERATION]]}]]
                },
            )
            await self._netlink.link("set", index=index, state="up", mtu=mtu)

    async def remove(self, name: str) -> bool:
        """Removes ``name`` with its addresses and routes; False if there was none."""
        index = self._index(name)
        if index is None:
            return False
        async with _as_failed(f"link {name}", forgiving=(ENODEV, ENOENT)):
            await self._netlink.link("del", index=index)
        return True

    async def add_wireguard(self, name: str, mtu: int) -> bool:
        """Adds a link of the kernel's WireGuard, or finds it there; False where the kernel has no WireGuard."""
        try:
            async with answered_in_time("netlink"):
                await self._netlink.link("add", ifname=name, kind="wireguard", mtu=mtu)
        except NetlinkError as error:
            return bool(error.code == EEXIST)
        return True

    async def kind(self, name: str) -> str | None:
        """The kind of the link ``name`` (``wireguard``, ``tun``, ``veth``); None where there is no such link."""
        async with _as_failed(f"link {name}", forgiving=(ENODEV,)):
            (link,) = await self._netlink.link("get", ifname=name)
            return str(link.get(("linkinfo", "kind")) or "")
        return None

    async def tunnel_mtu(self, underlay: str, otherwise: int = ETHERNET_TUNNEL_MTU) -> int:
        """The MTU of a tunnel whose packets leave by the link that has the address ``underlay``.

        It is ``otherwise`` where no link has it, as behind NAT; by default what fits an Ethernet.
        """
        wanted = ip_address(underlay)
        family = _V6 if wanted.version == 6 else socket.AF_INET
        found_mtu = None
        async with _as_failed("addresses"):
            for found in await self._dump("addr", family=family):
                if ip_address(found.get("local") or found.get("address")) == wanted:
                    (link,) = await self._netlink.link("get", index=found["index"])
                    found_mtu = int(link.get("mtu"))
        return otherwise if found_mtu is None else max(found_mtu - _TUNNEL, self.LEAST_MTU)

    # The host: its device and its workloads

    async def read(self, device: str, prefix: IPv6Network, workloads: str) -> Routes:
        """The routes as they are; the host's ends of workloads' veths have names that begin with ``workloads``."""
        async with _as_failed("links"):
            links = await self._dump("link")
        names = {link["index"]: link.get("ifname") for link in links}
        index = next((index for index, name in names.items() if name == device), None)
        async with _as_failed("addresses"):
            addresses = frozenset(
                [
                    Address.parse(found.get("address"))
                    for found in await self._dump("addr", family=_V6)
                    if found["index"] == index and found["prefixlen"] == 128
                ]
            )
        routes = await self._routes()
        neighbours = await self._neighbours()
        up = frozenset(
            link.get("ifname") for link in links if link.get("ifname").startswith(workloads) and link["flags"] & _IFF_UP
        )
        return Routes(
            # A TUN device's operational state is always "unknown", so the flag is used.
            is_up=any(link["index"] == index and link["flags"] & _IFF_UP for link in links),
            addresses=addresses,
            mtu=next((int(link.get("mtu")) for link in links if link["index"] == index), 0),
            has_prefix=(str(prefix), index) in routes,
            links=up,
            owners={
                name: owner
                for link in links
                if (name := link.get("ifname")).startswith(workloads) and (owner := _owner(link))
            },
            workloads={
                names[out]: Address.parse(target.removesuffix("/128"))
                for target, out in routes
                if target.endswith("/128") and names.get(out) in up and (target.removesuffix("/128"), out) in neighbours
            },
        )

    async def add_address(self, name: str, address: Address) -> None:
        """Adds ``address`` to the link ``name``; it is usable at once."""
        async with _as_failed(f"address {address}", forgiving=(EEXIST,)):
            index = self._require(name)
            await self._netlink.addr("add", index=index, address=str(address), prefixlen=128, flags=_NO_DAD, family=_V6)

    async def remove_address(self, name: str, address: Address) -> None:
        """Removes ``address`` from the link ``name``."""
        async with _as_failed(f"address {address}", forgiving=(ENODEV, ENOENT)):
            await self._netlink.addr("del", index=self._require(name), address=str(address), prefixlen=128, family=_V6)

    async def set_route(
        self, target: str, name: str, gateway: str | None = None, source: Address | None = None
    ) -> None:
        """Routes ``target``, a prefix, to the link ``name``, instead of wherever it was routed before."""
        async with _as_failed(f"route to {target}"):
            more = {"gateway": gateway} if gateway else {}
            more |= {"prefsrc": str(source)} if source else {}
            index = self._require(name)
            await self._netlink.route("replace", dst=target, oif=index, proto=OURS, family=_V6, **more)

    async def remove_route(self, target: str, name: str) -> None:
        """Removes the route of ``target`` to the link ``name``."""
        async with _as_failed(f"route to {target}", forgiving=(ENODEV, ENOENT, ESRCH)):
            index = self._index(name)
            if index is not None:
                await self._netlink.route("del", dst=target, oif=index, family=_V6)

    async def set_neighbour(self, address: str, mac: str, name: str) -> None:
        """Makes ``mac`` the permanent neighbour entry of ``address`` on the link ``name``: no discovery is needed."""
        async with _as_failed(f"neighbour {address}"):
            index = self._require(name)
            await self._netlink.neigh("replace", dst=address, lladdr=mac, ifindex=index, state=_PERMANENT, family=_V6)

    # A workload's link

    async def add_veth(self, name: str, mac: str, peer: str, peer_mac: str, namespace: int, mtu: int) -> None:
        """Adds a veth pair: ``name`` here, ``peer`` in ``namespace``."""
        async with _as_failed(f"link {name}"):
            await self._netlink.link(
                "add",
                ifname=name,
                kind="veth",
                address=mac,
                mtu=mtu,
                peer={"ifname": peer, "net_ns_fd": namespace, "address": peer_mac, "mtu": mtu},
            )

    async def set_filter(self, name: str, incoming: int, outgoing: int, label: str) -> None:
        """Puts the two BPF programs, by their descriptors, on the link ``name``, in place of those that are there."""
        async with _as_failed(f"filter of {name}"):
            index = self._require(name)
        async with _as_failed(f"filter of {name}", forgiving=(EEXIST,)):
            await self._netlink.tc("add", "clsact", index)
        async with _as_failed(f"filter of {name}"):
            for parent, program in ((INGRESS, incoming), (EGRESS, outgoing)):
                await self._netlink.tc(
                    "replace-filter", "bpf", index, 1, prio=1, parent=parent, fd=program, name=label, direct_action=True
                )

    def filters(self, name: str) -> tuple[str | None, str | None]:
        """The labels of the BPF programs of `set_filter` on the link ``name``, None where there is none."""
        index = self._index(name)
        if index is None:
            return None, None
        with _tc_as_failed(f"filter of {name}"):
            return read_label(self._names, index, INGRESS), read_label(self._names, index, EGRESS)

    def filter_drops(self, names: Collection[str], prefix: str) -> int:
        """How many packets the filters have dropped at ``names`` and at the links whose names begin with ``prefix``."""
        ours = {index for index, name in socket.if_nameindex() if name in names or name.startswith(prefix)}
        with _tc_as_failed("filters"):
            return count_drops(self._names, ours)

    async def set_mac(self, name: str, mac: str) -> None:
        """Gives the link ``name`` the MAC address ``mac``; it stays up."""
        async with _as_failed(f"link {name}"):
            await self._netlink.link("set", index=self._require(name), address=mac)

    async def peer_index(self, name: str) -> int | None:
        """The index of the other end of the veth ``name``, in whatever namespace that is; None where there is none."""
        async with _as_failed(f"link {name}", forgiving=(ENODEV,)):
            (link,) = await self._netlink.link("get", index=self._require(name))
            return int(link.get("link") or 0) or None
        return None

    async def peer_namespace(self, name: str) -> int | None:
        """The number by which this namespace knows that of the other end of the veth ``name``; None for this one."""
        async with _as_failed(f"link {name}", forgiving=(ENODEV,)):
            (link,) = await self._netlink.link("get", index=self._require(name))
            found = link.get("link_netnsid")
            return None if found is None else int(found)
        return None

    async def namespace_number(self, namespace: int) -> int:
        """The number by which this namespace knows ``namespace``, a descriptor; -1 where it knows it by none."""
        async with _as_failed("namespaces"):
            return int((await self._netlink.get_netnsid(fd=namespace))["nsid"])

    def index(self, name: str) -> int | None:
        """The index of the link ``name``; None where there is none."""
        return self._index(name)

    async def has_address(self, name: str, address: str) -> bool:
        """Whether the link ``name`` has ``address``."""
        index = self._index(name)
        async with _as_failed("addresses"):
            return any(
                found["index"] == index and found.get("address") == address
                for found in await self._dump("addr", family=_V6)
            )

    async def describe(self, name: str) -> dict[str, Any] | None:
        """MAC, MTU, state, addresses and the agent's routes of the link ``name``; None where there is no such link."""
        index = self._index(name)
        if index is None:
            return None
        async with _as_failed(f"link {name}"):
            (link,) = await self._netlink.link("get", index=index)
            addresses = [
                found.get("address") for found in await self._dump("addr", family=_V6) if found["index"] == index
            ]
        routes = sorted(target for target, out in await self._routes() if out == index)
        is_up = bool(link["flags"] & _IFF_UP)
        return {
            "mac": link.get("address"),
            "mtu": link.get("mtu"),
            "up": is_up,
            "addresses": addresses,
            "routes": routes,
        }

    async def name(self, index: int) -> str | None:
        """The name of the link with this ``index``; None where there is none."""
        async with _as_failed("links", forgiving=(ENODEV,)):
            (link,) = await self._netlink.link("get", index=index)
            return str(link.get("ifname"))
        return None

    async def _dump(self, part: str, **selection: int) -> list[Any]:
        """All links, addresses, routes or neighbours: what pyroute2 calls ``part``."""
        # The kernel answers EBUSY to a dump while another one is under way on the same socket.
        async with self._dumping:
            return [found async for found in await getattr(self._netlink, part)("dump", **selection)]

    async def _routes(self) -> set[tuple[str, int]]:
        """Target and outgoing link of each of the agent's routes."""
        async with _as_failed("routes"):
            return {
                (f"{found.get('dst')}/{found['dst_len']}", found.get("oif"))
                for found in await self._dump("route", family=_V6, table=_MAIN_TABLE)
                if found["proto"] == OURS
            }

    async def _neighbours(self) -> set[tuple[str, int]]:
        async with _as_failed("neighbours"):
            return {
                (found.get("dst"), found["ifindex"])
                for found in await self._dump("neigh", family=_V6)
                if found["state"] == _PERMANENT
            }

    def _index(self, name: str) -> int | None:
        return self._ask(_SIOCGIFINDEX, name)

    def _ask(self, request: int, name: str) -> int | None:
        # By ioctl: netlink answers with all that there is of a link, and this is needed with every step.
        try:
            answer = fcntl.ioctl(self._names, request, _IFREQ.pack(name.encode(), 0))
        except OSError as error:
            if error.errno == ENODEV:
                return None
            raise Failed(f"link {name}: {error.strerror}") from error
        number: int = _IFREQ.unpack(answer)[1]
        return number

    def _require(self, name: str) -> int:
        index = self._index(name)
        if index is None:
            raise LinkGone(f"there is no link {name}: somebody has removed it")
        return index


def _owner(link: Any) -> str:
    alias = str(link.get("ifalias") or "")
    return alias.removeprefix(_MADE_FOR) if alias.startswith(_MADE_FOR) else ""


@asynccontextmanager
async def _as_failed(what: str, forgiving: tuple[int, ...] = ()) -> AsyncIterator[None]:
    try:
        async with answered_in_time("netlink"):
            yield
    except NetlinkError as error:
        if error.code == EADDRINUSE:
            raise PortInUse(f"{what}: the port is in use") from error
        if error.code not in forgiving:
            kind = LinkGone if error.code == ENODEV else Failed
            raise kind(f"{what}: the kernel says: {error.args[1] if len(error.args) > 1 else error}") from error


@contextmanager
def _tc_as_failed(what: str) -> Iterator[None]:
    try:
        yield
    except TimeoutError:
        raise stuck("netlink") from None
    except OSError as error:
        kind = LinkGone if error.errno == ENODEV else Failed
        raise kind(f"{what}: the kernel says: {error.strerror}") from error
