"""Links, addresses, routes and neighbours: the wall around pyroute2's rtnetlink, whose exceptions end here.

One `Links` speaks for one network namespace: the host's, or for the length of an attachment a workload's.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from errno import EEXIST, ENODEV, ENOENT, ESRCH
from ipaddress import IPv6Network, ip_address
from typing import Any

from pyroute2 import AsyncIPRoute
from pyroute2.netlink.exceptions import NetlinkError

from agent.errors import Failed
from agent.plan.routes import Routes
from agent.system.deadline import answered_in_time
from zones.addresses import Address

OURS = 105  # the routing protocol that marks routes as ours ("i"); none that has a name (<linux/rtnetlink.h>)

_ETHERNET = 1500  # octets
_TUNNEL = 80  # octets that a packet grows by: IPv6 40, UDP 8, WireGuard 32 (wg-quick reckons so too)
_IFF_UP = 1
_SIOCGIFINDEX, _SIOCGIFFLAGS = 0x8933, 0x8913  # <linux/sockios.h>; netdevice(7)
_IFREQ = struct.Struct("@16si20x")
_MAIN_TABLE = 254
_PERMANENT = 0x80  # NUD_PERMANENT
_NO_DAD = 0x02  # IFA_F_NODAD: the address is ours alone, so nobody is asked, and it works in the same moment
_NO_ADDRESS_GENERATION = 1  # IN6_ADDR_GEN_MODE_NONE
_V6 = socket.AF_INET6


class Links:
    """The links of one network namespace. All methods raise `Failed`, and `Stuck` where the kernel does not answer."""

    LEAST_MTU = 1280  # octets; IPv6 has no smaller one (RFC 8200 §5)

    def __init__(self, descriptor: int | None = None) -> None:
        """``descriptor`` is a netlink socket that was made inside another namespace; it is closed with this."""
        if descriptor is None:
            self._names = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, socket.NETLINK_ROUTE)
        else:
            self._names = socket.socket(fileno=os.dup(descriptor))
        # No groups: what is announced to everybody would pile up in a queue that nobody reads.
        self._netlink: Any = AsyncIPRoute(groups=0, fileno=descriptor)

    def close(self) -> None:
        """Ends the conversation."""
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

    async def set_up(self, name: str, mtu: int) -> None:
        """Makes ``name`` be up, with ``mtu`` and with no addresses but those that it is given."""
        async with _told(f"link {name}"):
            index = self._require(name)
            # In two steps: the kernel takes the state first, and would have made up an address by then.
            await self._netlink.link(
                "set",
                index=index,
                IFLA_AF_SPEC={
                    "attrs": [["AF_INET6", {"attrs": [["IFLA_INET6_ADDR_GEN_MODE", _NO_ADDRESS_GENERATION]]}]]
                },
            )
            await self._netlink.link("set", index=index, state="up", mtu=mtu)

    async def remove(self, name: str) -> bool:
        """Makes ``name`` be gone, with all that hangs on it; False if it was."""
        index = self._index(name)
        if index is None:
            return False
        async with _told(f"link {name}", forgiving=(ENODEV, ENOENT)):
            await self._netlink.link("del", index=index)
        return True

    async def make_tunnel(self, name: str, mtu: int) -> bool:
        """Makes a WireGuard link of the kernel's; False where the kernel has none."""
        try:
            async with answered_in_time("netlink"):
                await self._netlink.link("add", ifname=name, kind="wireguard", mtu=mtu)
        except NetlinkError as error:
            return bool(error.code == EEXIST)
        return True

    async def kind(self, name: str) -> str | None:
        """What kind of link ``name`` is (``wireguard``, ``tun``, ``veth``); None where there is none."""
        async with _told(f"link {name}", forgiving=(ENODEV,)):
            (link,) = await self._netlink.link("get", ifname=name)
            return str(link.get(("linkinfo", "kind")) or "")
        return None

    async def tunnel_mtu(self, underlay: str) -> int:
        """The MTU of a tunnel whose packets leave by the link that has the address ``underlay``.

        Where none has it, as behind a translator of addresses, the link is taken for an Ethernet's.
        """
        wanted = ip_address(underlay)
        family = _V6 if wanted.version == 6 else socket.AF_INET
        mtu = _ETHERNET
        async with _told("addresses"):
            async for found in await self._netlink.addr("dump", family=family):
                if ip_address(found.get("local") or found.get("address")) == wanted:
                    (link,) = await self._netlink.link("get", index=found["index"])
                    mtu = int(link.get("mtu"))
        return max(mtu - _TUNNEL, self.LEAST_MTU)

    # The host: its device and its workloads

    async def read(self, device: str, prefix: IPv6Network, workloads: str) -> Routes:
        """What there is of ours; the links of workloads have names that begin with ``workloads``."""
        async with _told("links"):
            links = [link async for link in await self._netlink.link("dump")]
        names = {link["index"]: link.get("ifname") for link in links}
        index = next((index for index, name in names.items() if name == device), None)
        async with _told("addresses"):
            addresses = frozenset(
                [
                    Address.parse(found.get("address"))
                    async for found in await self._netlink.addr("dump", family=_V6)
                    if found["index"] == index and found["prefixlen"] == 128
                ]
            )
        routes = await self._routes()
        neighbours = await self._neighbours()
        interfaces = frozenset(
            link.get("ifname") for link in links if link.get("ifname").startswith(workloads) and link["flags"] & _IFF_UP
        )
        return Routes(
            # A TUN device has no state of its own ("unknown"), so its flag is looked at.
            is_up=any(link["index"] == index and link["flags"] & _IFF_UP for link in links),
            addresses=addresses,
            has_prefix=(str(prefix), index) in routes,
            interfaces=interfaces,
            workloads={
                names[out]: Address.parse(target.removesuffix("/128"))
                for target, out in routes
                if target.endswith("/128")
                and names.get(out) in interfaces
                and (target.removesuffix("/128"), out) in neighbours
            },
        )

    async def add_address(self, name: str, address: Address) -> None:
        """Gives the link ``name`` one address more, at once usable."""
        async with _told(f"address {address}", forgiving=(EEXIST,)):
            index = self._require(name)
            await self._netlink.addr("add", index=index, address=str(address), prefixlen=128, flags=_NO_DAD, family=_V6)

    async def remove_address(self, name: str, address: Address) -> None:
        """Takes ``address`` from the link ``name``."""
        async with _told(f"address {address}", forgiving=(ENODEV, ENOENT)):
            await self._netlink.addr("del", index=self._require(name), address=str(address), prefixlen=128, family=_V6)

    async def route(self, target: str, name: str, gateway: str | None = None, source: Address | None = None) -> None:
        """Sends what is for ``target``, a prefix, to the link ``name``; what else led there does no more."""
        async with _told(f"route to {target}"):
            more = {"gateway": gateway} if gateway else {}
            more |= {"prefsrc": str(source)} if source else {}
            index = self._require(name)
            await self._netlink.route("replace", dst=target, oif=index, proto=OURS, family=_V6, **more)

    async def unroute(self, target: str, name: str) -> None:
        """Sends nothing for ``target`` to the link ``name``."""
        async with _told(f"route to {target}", forgiving=(ENODEV, ENOENT, ESRCH)):
            index = self._index(name)
            if index is not None:
                await self._netlink.route("del", dst=target, oif=index, family=_V6)

    async def know(self, address: str, mac: str, name: str) -> None:
        """Makes ``address`` be known to live at ``mac`` beyond the link ``name``, so that nobody has to ask."""
        async with _told(f"neighbour {address}"):
            index = self._require(name)
            await self._netlink.neigh("replace", dst=address, lladdr=mac, ifindex=index, state=_PERMANENT, family=_V6)

    # A workload's link

    async def add_pair(self, name: str, mac: str, peer: str, peer_mac: str, namespace: int, mtu: int) -> None:
        """Makes a veth: ``name`` here, ``peer`` in ``namespace``."""
        async with _told(f"link {name}"):
            await self._netlink.link(
                "add",
                ifname=name,
                kind="veth",
                address=mac,
                mtu=mtu,
                peer={"ifname": peer, "net_ns_fd": namespace, "address": peer_mac, "mtu": mtu},
            )

    async def describe(self, name: str) -> dict[str, Any] | None:
        """MAC, MTU, state and addresses of the link ``name``; None where there is none."""
        index = self._index(name)
        if index is None:
            return None
        async with _told(f"link {name}"):
            (link,) = await self._netlink.link("get", index=index)
            addresses = [
                found.get("address")
                async for found in await self._netlink.addr("dump", family=_V6)
                if found["index"] == index
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

    async def _routes(self) -> set[tuple[str, int]]:
        """Target and outgoing link of each route of ours."""
        async with _told("routes"):
            return {
                (f"{found.get('dst')}/{found['dst_len']}", found.get("oif"))
                async for found in await self._netlink.route("dump", family=_V6, table=_MAIN_TABLE)
                if found["proto"] == OURS
            }

    async def _neighbours(self) -> set[tuple[str, int]]:
        async with _told("neighbours"):
            return {
                (found.get("dst"), found["ifindex"])
                async for found in await self._netlink.neigh("dump", family=_V6)
                if found["state"] == _PERMANENT
            }

    def _index(self, name: str) -> int | None:
        return self._ask(_SIOCGIFINDEX, name)

    def _ask(self, request: int, name: str) -> int | None:
        # Not by netlink, which tells all that it knows of a link: this is asked with every step.
        try:
            told = fcntl.ioctl(self._names, request, _IFREQ.pack(name.encode(), 0))
        except OSError as error:
            if error.errno == ENODEV:
                return None
            raise Failed(f"link {name}: {error.strerror}") from error
        number: int = _IFREQ.unpack(told)[1]
        return number

    def _require(self, name: str) -> int:
        index = self._index(name)
        if index is None:
            raise Failed(f"there is no link {name}: somebody has removed it")
        return index


@asynccontextmanager
async def _told(what: str, forgiving: tuple[int, ...] = ()) -> AsyncIterator[None]:
    try:
        async with answered_in_time("netlink"):
            yield
    except NetlinkError as error:
        if error.code not in forgiving:
            raise Failed(f"{what}: the kernel says: {error.args[1] if len(error.args) > 1 else error}") from error
