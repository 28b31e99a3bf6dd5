"""Links, addresses, routes and neighbours, by routing netlink: `route_messages` has the messages.

One `Links` works in the network namespace of the thread that made it: the host's, or a workload's while it is being
attached. The kernel answers while the request is sent, so no call waits for anything but the kernel. To remove a link
takes that tens of milliseconds, so it is done aside (`call_with_links`).
"""

from __future__ import annotations

import fcntl
import socket
import struct
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import closing, contextmanager
from errno import EADDRINUSE, EEXIST, ENODEV, ENOENT, ESRCH
from ipaddress import IPv6Network, ip_address
from typing import TypedDict, TypeVar

from agent.errors import Failed, LinkGone, PortInUse
from agent.plan.routes import Routes
from agent.system import route_messages as messages
from agent.system.aside import call_aside
from agent.system.deadline import SYSTEM_DEADLINE, stuck
from agent.system.netlink_socket import Interrupted, NetlinkSocket
from agent.system.route_messages import Link, Request
from agent.system.traffic_control import EGRESS, INGRESS, add_clsact, count_drops, read_label, set_bpf
from zones.addresses import Address

_TUNNEL = 80  # octets added to each packet: IPv6 40, UDP 8, WireGuard 32 (wg-quick subtracts the same)
ETHERNET_TUNNEL_MTU = 1500 - _TUNNEL  # octets
_MADE_FOR = "interlock "  # what the alias of a workload's link begins with; the key of its attachment follows
_SIOCGIFINDEX, _SIOCGIFFLAGS = 0x8933, 0x8913  # <linux/sockios.h>; netdevice(7)
_IFREQ = struct.Struct("@16si20x")
_INTERRUPTIONS = 5  # of one dump, by changes of others; then what there is is taken, and the next read-back compares
_HOST_BITS = 128

T = TypeVar("T")


class Description(TypedDict):
    """What `Links.describe` says of a link."""

    mac: str
    mtu: int
    up: bool
    addresses: list[str]  # each with the length of its prefix
    routes: list[str]


class Links:
    """The links of one network namespace. All methods raise `Failed`, and `Stuck` where the kernel does not answer."""

    LEAST_MTU = 1280  # octets; IPv6 has no smaller one (RFC 8200 §5)

    def __init__(self) -> None:
        self._netlink = NetlinkSocket(messages.PROTOCOL, is_strict=True)
        self._together: list[tuple[str, Request, tuple[int, ...]]] | None = None

    def close(self) -> None:
        """Closes the socket."""
        self._netlink.close()

    @contextmanager
    def together(self) -> Iterator[None]:
        """Sends all changes that are made meanwhile at once, at the end; raises the first failure of one of them.

        The kernel carries out each of them, also after one that has failed. None is sent where the body fails.
        """
        if self._together is not None:  # they go with those of the caller
            yield
            return
        changes = self._together = []
        try:
            yield
        finally:
            self._together = None
        with _as_failed("netlink"):
            requests = [(request.kind, request.flags, request.body) for _, request, _ in changes]
            refusals = self._netlink.ask_together(requests, time.monotonic() + SYSTEM_DEADLINE)
        for (what, _, forgiving), refusal in zip(changes, refusals, strict=True):
            with _as_failed(what, forgiving):
                if refusal:
                    raise refusal

    # Any link

    def exists(self, name: str) -> bool:
        """Whether there is a link ``name``."""
        return self._index(name) is not None

    def find(self, name: str) -> Link | None:
        """The link ``name`` as the kernel describes it; None where there is no such link."""
        index = self._index(name)
        if index is None:
            return None
        with _as_failed(f"link {name}", forgiving=(ENODEV,)):
            return self._get(index)
        return None

    def is_up(self, name: str) -> bool:
        """Whether there is a link ``name``, and it is up."""
        return bool((self._ask(_SIOCGIFFLAGS, name) or 0) & messages.UP)

    def named(self, prefix: str) -> list[str]:
        """The links of the host whose names begin with ``prefix``."""
        return [name for _, name in socket.if_nameindex() if name.startswith(prefix)]

    def owner(self, name: str) -> str:
        """Whom the link ``name`` was made for, as `add_veth` wrote it on the link; empty where it does not tell."""
        found = self.find(name)
        return owner_of(found) if found else ""

    def set_owner(self, name: str, owner: str, mac: str) -> None:
        """Writes on the link ``name`` whom it was made for, with ``mac``, in the agent's group, and without ARP."""
        self._change(f"link {name}", messages.set_owner(self._require(name), f"{_MADE_FOR}{owner}", mac))

    def set_group(self, name: str) -> None:
        """Puts the link ``name`` in the group of the agent's links."""
        self._change(f"link {name}", messages.set_group(self._require(name)))

    def set_up(self, name: str, mtu: int) -> None:
        """Brings ``name`` up with ``mtu``, and has the kernel make up no link-local address for it."""
        index = self._require(name)
        # In two steps: in one, the kernel would bring the link up first, and make up an address at once.
        self._change(f"link {name}", messages.generate_no_address(index))
        self._change(f"link {name}", messages.set_up(index, mtu))

    def remove(self, name: str) -> bool:
        """Removes ``name`` with its addresses and routes; False if there was none."""
        index = self._index(name)
        if index is None:
            return False
        self._change(f"link {name}", messages.delete_link(index), (ENODEV, ENOENT))
        return True

    def add_wireguard(self, name: str, mtu: int) -> bool:
        """Adds a link of the kernel's WireGuard, or finds it there; False where the kernel has no WireGuard."""
        try:
            for _ in self._send(messages.add_wireguard(name, mtu)):
                pass
        except TimeoutError:
            raise stuck("netlink") from None
        except OSError as error:
            return error.errno == EEXIST
        return True

    def kind(self, name: str) -> str | None:
        """The kind of the link ``name`` (``wireguard``, ``tun``, ``veth``); None where there is no such link."""
        found = self.find(name)
        return found.kind if found else None

    def tunnel_mtu(self, underlay: str, otherwise: int = ETHERNET_TUNNEL_MTU) -> int:
        """The MTU of a tunnel whose packets leave by the link that has the address ``underlay``.

        It is ``otherwise`` where no link has it, as behind NAT; by default what fits an Ethernet.
        """
        wanted = ip_address(underlay)
        family = socket.AF_INET6 if wanted.version == 6 else socket.AF_INET
        with _as_failed("addresses"):
            for found in self._dump(messages.list_addresses(family)):
                index, address, _ = messages.read_address(found)
                if address == wanted:
                    return max(self._get(index).mtu - _TUNNEL, self.LEAST_MTU)
        return otherwise

    # The host: its device and its workloads

    def read(self, device: str, prefix: IPv6Network, workloads: str) -> Routes:
        """The routes as they are; the host's ends of workloads' veths have names that begin with ``workloads``."""
        with _as_failed("links"):
            links = [messages.read_link(one) for one in self._dump(messages.list_links())]
        names = {link.index: link.name for link in links}
        tunnel = next((link for link in links if link.name == device), None)
        index = tunnel.index if tunnel else None
        routes, neighbours = self._routes(), self._neighbours()
        ours = [link for link in links if link.name.startswith(workloads)]
        # Where the MTU is smaller than IPv6 allows, the kernel takes IPv6 off the link, and refuses all that is added.
        up = frozenset(link.name for link in ours if link.flags & messages.UP and link.mtu >= self.LEAST_MTU)
        return Routes(
            # A TUN device's operational state is always "unknown", so the flag is used.
            is_up=tunnel is not None and bool(tunnel.flags & messages.UP),
            addresses=frozenset(Address(packed) for packed, bits in self._addresses(index) if bits == _HOST_BITS),
            mtu=tunnel.mtu if tunnel else 0,
            has_prefix=(str(prefix), index) in routes,
            links=up,
            owners={link.name: owner for link in ours if (owner := owner_of(link))},
            ungrouped=frozenset(link.name for link in (*ours, tunnel) if link and link.group != messages.OUR_GROUP),
            workloads={
                names[out]: Address.parse(target.removesuffix("/128"))
                for target, out in routes
                if target.endswith("/128") and names.get(out) in up and (target.removesuffix("/128"), out) in neighbours
            },
        )

    def add_address(self, name: str, address: Address) -> None:
        """Adds ``address`` to the link ``name``; it is usable at once."""
        self._change(f"address {address}", messages.add_address(self._require(name), address), (EEXIST,))

    def remove_address(self, name: str, address: Address, bits: int = _HOST_BITS) -> None:
        """Removes ``address``, with a prefix of ``bits``, from the link ``name``."""
        request = messages.delete_address(self._require(name), address, bits)
        self._change(f"address {address}", request, (ENODEV, ENOENT))

    def set_route(self, target: str, name: str, gateway: str | None = None, source: Address | None = None) -> None:
        """Routes ``target``, a prefix, to the link ``name``, instead of wherever it was routed before."""
        by = Address.parse(gateway) if gateway else None
        request = messages.set_route(IPv6Network(target), self._require(name), by, source)
        self._change(f"route to {target}", request)

    def remove_route(self, target: str, name: str) -> None:
        """Removes the route of ``target`` to the link ``name``."""
        index = self._index(name)
        if index is not None:
            request = messages.delete_route(IPv6Network(target), index)
            self._change(f"route to {target}", request, (ENODEV, ENOENT, ESRCH))

    def way(self, target: Address, source: Address, incoming: str) -> str | None:
        """The link by which a packet from ``source`` to ``target`` leaves that comes in by the link ``incoming``.

        None where the kernel drops it, as a route or a rule may say.
        """
        request = messages.get_route(target, source, self._require(incoming))
        try:
            out = messages.read_way(self._get_one(request))
        except TimeoutError:
            raise stuck("netlink") from None
        except OSError:
            return None
        return self.name(out) if out else None

    def set_neighbour(self, address: str, mac: str, name: str) -> None:
        """Makes ``mac`` the permanent neighbour entry of ``address`` on the link ``name``: no discovery is needed."""
        self._change(f"neighbour {address}", messages.set_neighbour(Address.parse(address), mac, self._require(name)))

    def neighbour(self, address: str, name: str) -> str | None:
        """The MAC address of the permanent neighbour entry of ``address`` on the link ``name``; None without one."""
        index = self._index(name)
        return None if index is None else self._neighbours().get((address, index))

    # A workload's link

    def add_veth(self, name: str, mac: str, peer: str, peer_mac: str, namespace: int, mtu: int) -> None:
        """Adds a veth pair: ``name`` here, ``peer`` in ``namespace``."""
        self._change(f"link {name}", messages.add_veth(name, mac, peer, peer_mac, namespace, mtu))

    def set_filter(self, name: str, incoming: int, outgoing: int, label: str) -> None:
        """Puts the two BPF programs, by their descriptors, on the link ``name``, in place of those that are there."""
        what, index = f"filter of {name}", self._require(name)
        with self.together():
            self._change(what, add_clsact(index), (EEXIST,))
            for parent, program in ((INGRESS, incoming), (EGRESS, outgoing)):
                self._change(what, set_bpf(index, parent, program, label))

    def filters(self, name: str) -> tuple[str | None, str | None]:
        """The labels of the BPF programs of `set_filter` on the link ``name``, None where there is none."""
        index = self._index(name)
        if index is None:
            return None, None
        with _as_failed(f"filter of {name}"):
            return read_label(self._netlink, index, INGRESS), read_label(self._netlink, index, EGRESS)

    def filter_drops(self, names: Collection[str], prefix: str) -> int:
        """How many packets the filters have dropped at ``names`` and at the links whose names begin with ``prefix``."""
        ours = {index for index, name in socket.if_nameindex() if name in names or name.startswith(prefix)}
        with _as_failed("filters"):
            return count_drops(self._netlink, ours)

    def set_mac(self, name: str, mac: str) -> None:
        """Gives the link ``name`` the MAC address ``mac``; it stays up."""
        self._change(f"link {name}", messages.set_mac(self._require(name), mac))

    def peer_index(self, name: str) -> int | None:
        """The index of the other end of the veth ``name``, in whatever namespace that is; None where there is none."""
        with _as_failed(f"link {name}", forgiving=(ENODEV,)):
            return self._get(self._require(name)).peer_index
        return None

    def peer_namespace(self, name: str) -> int | None:
        """The number by which this namespace knows that of the other end of the veth ``name``; None for this one."""
        with _as_failed(f"link {name}", forgiving=(ENODEV,)):
            return self._get(self._require(name)).peer_namespace
        return None

    def namespace_number(self, namespace: int) -> int:
        """The number by which this namespace knows ``namespace``, a descriptor; -1 where it knows it by none."""
        with _as_failed("namespaces"):
            return messages.read_namespace_number(self._get_one(messages.get_namespace_number(namespace)))

    def index(self, name: str) -> int | None:
        """The index of the link ``name``; None where there is none."""
        return self._index(name)

    def has_address(self, name: str, address: str) -> bool:
        """Whether the link ``name`` has ``address``."""
        return (bytes(Address.parse(address)), _HOST_BITS) in self._addresses(self._index(name))

    def describe(self, name: str) -> Description | None:
        """MAC, MTU, state, addresses and the agent's routes of the link ``name``; None where there is no such link."""
        index = self._index(name)
        if index is None:
            return None
        with _as_failed(f"link {name}"):
            link = self._get(index)
        return {
            "mac": link.mac,
            "mtu": link.mtu,
            "up": bool(link.flags & messages.UP),
            "addresses": [f"{Address(packed)}/{bits}" for packed, bits in self._addresses(index)],
            "routes": sorted(target for target, out in self._routes() if out == index),
        }

    def name(self, index: int) -> str | None:
        """The name of the link with this ``index``; None where there is none."""
        with _as_failed("links", forgiving=(ENODEV,)):
            return self._get(index).name
        return None

    def _get(self, index: int) -> Link:
        return messages.read_link(self._get_one(messages.get_link(index)))

    def _addresses(self, index: int | None) -> list[tuple[bytes, int]]:
        """The IPv6 addresses of the link ``index``, each with the length of its prefix."""
        with _as_failed("addresses"):
            found = map(messages.read_address, self._dump(messages.list_addresses()))
            return [(one.packed, bits) for out, one, bits in found if out == index]

    def _routes(self) -> set[tuple[str, int]]:
        """Target and outgoing link of each of the agent's routes."""
        with _as_failed("routes"):
            return set(filter(None, map(messages.read_route, self._dump(messages.list_routes()))))

    def _neighbours(self) -> dict[tuple[str, int], str]:
        """The MAC address of each permanent neighbour entry, by address and link."""
        with _as_failed("neighbours"):
            return dict(filter(None, map(messages.read_neighbour, self._dump(messages.list_neighbours()))))

    def _change(self, what: str, request: Request, forgiving: tuple[int, ...] = ()) -> None:
        """Has the kernel carry out ``request``, which is about ``what``; the errors ``forgiving`` are none."""
        if self._together is not None:
            self._together.append((what, request, forgiving))
            return
        with _as_failed(what, forgiving):
            for _ in self._send(request):
                pass

    def _get_one(self, request: Request) -> bytes:
        return next(self._send(request))

    def _dump(self, request: Request) -> list[bytes]:
        found: list[bytes] = []
        for _ in range(_INTERRUPTIONS):
            found.clear()
            try:
                found.extend(self._send(request))
            except Interrupted:
                continue
            break
        return found

    def _send(self, request: Request) -> Iterator[bytes]:
        return self._netlink.ask(request.kind, request.flags, request.body, time.monotonic() + SYSTEM_DEADLINE)

    def _index(self, name: str) -> int | None:
        return self._ask(_SIOCGIFINDEX, name)

    def _ask(self, request: int, name: str) -> int | None:
        # By ioctl: netlink answers with all that there is of a link, and this is needed with every step.
        try:
            answer = fcntl.ioctl(self._netlink, request, _IFREQ.pack(name.encode(), 0))
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


async def call_with_links(function: Callable[[Links], T]) -> T:
    """What ``function`` gives for links of the host that are its own, called aside."""

    def call() -> T:
        with closing(Links()) as links:
            return function(links)

    return await call_aside(call)


def owner_of(link: Link) -> str:
    """Whom ``link`` was made for, as it says itself; empty where it does not tell."""
    return link.alias.removeprefix(_MADE_FOR) if link.alias.startswith(_MADE_FOR) else ""


@contextmanager
def _as_failed(what: str, forgiving: tuple[int, ...] = ()) -> Iterator[None]:
    try:
        yield
    except TimeoutError:
        raise stuck("netlink") from None
    except OSError as error:
        if error.errno == EADDRINUSE:
            raise PortInUse(f"{what}: the port is in use") from error
        if error.errno not in forgiving:
            kind = LinkGone if error.errno == ENODEV else Failed
            raise kind(f"{what}: the kernel says: {error.strerror}") from error
