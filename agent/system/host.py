"""The parts of this host that the agent changes, together: the firewall, the WireGuard device, and the links."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace

from agent.errors import Failed, LinkGone
from agent.plan.link_filter import LinkFilter, tunnel_filter, workload_filter
from agent.plan.peers import Tunnel
from agent.plan.routes import AddAddress, AddWorkload, RemoveAddress, RemoveWorkload, RoutePrefix, Routes, RouteStep
from agent.plan.steps import Steps
from agent.system.link_filters import guard_link
from agent.system.netlink import Links
from agent.system.nftables import Firewall
from agent.system.sysctls import enable_forwarding, enable_ipv6
from agent.system.veth import LINK_PREFIX
from agent.system.wireguard.device import Device
from zones.addresses import Address, Platform


@dataclass(slots=True)
class HostSystem:
    """The adapters of one host. All methods raise `Failed`, and `Stuck` where a part does not answer in time."""

    device_name: str
    """The name of the WireGuard device."""
    mtu: int
    """The MTU that the WireGuard device and all veths should have, in octets; it follows the underlay's."""
    platform: Platform
    """The platform's addresses; all of its prefix is routed to the device."""
    device: Device
    """The WireGuard device, by one of the backends."""
    links: Links
    """Links, addresses, routes and neighbours, by netlink."""
    firewall: Firewall
    """The agent's nftables table."""
    made_firewall: bool = False
    """Whether there was no table before this agent made it."""
    made_device: bool = False
    """Whether there was no WireGuard device before this agent made it."""
    filter_problem: str = ""
    """Why the agent's links have no filters, with what to do about it; empty where they have."""

    async def follow_underlay(self, underlay: str) -> None:
        """Sets ``mtu`` by that of the link which has the address ``underlay``; leaves it where none has it now."""
        self.mtu = self.links.tunnel_mtu(underlay, self.mtu)

    async def read_device(self) -> tuple[Tunnel | None, Routes]:
        """The WireGuard device as it is, None where there is none, and the routes as they are."""
        return await self.device.read(), self.read_routes()

    def read_routes(self) -> Routes:
        """The routes as they are."""
        return self.links.read(self.device_name, self.platform.prefix, LINK_PREFIX)

    def enable_forwarding(self) -> bool:
        """Lets this host forward IPv6 packets; False if it did already."""
        return enable_forwarding()

    def group_links(self, routes: Routes) -> None:
        """Puts those links in the agent's group that ``routes`` names as not being in it."""
        for link in routes.ungrouped:
            with suppress(LinkGone):
                self.links.set_group(link)

    async def guard_device(self) -> None:
        """Puts the filter on the WireGuard device. Where the kernel takes none, that is a problem and no failure."""
        try:
            guard_link(self.links, self.device_name, tunnel_filter(self.platform))
        except Failed as error:
            self.filter_problem = (
                f"the links of this host have no filters, so nftables alone keeps environments apart: {error}: does the"
                " kernel have CONFIG_BPF_SYSCALL, CONFIG_NET_CLS_BPF and CONFIG_NET_SCH_INGRESS, and may the agent call"
                " bpf(2)?"
            )
        else:
            self.filter_problem = ""

    def filter_of(self, address: Address) -> LinkFilter | None:
        """The filter of the link of the workload at ``address``; None where the kernel takes none."""
        return None if self.filter_problem else workload_filter(address, self.platform)

    def drops(self) -> int:
        """How many packets the filters of the agent's links have dropped, of links that still exist."""
        return 0 if self.filter_problem else self.links.filter_drops((self.device_name,), LINK_PREFIX)

    async def apply(self, steps: Steps, macs: Mapping[str, str]) -> Steps:
        """Takes ``steps``, and gives those that were taken: nothing is routed to a workload whose link has just gone.

        ``macs`` has the MAC address of each workload by the host's end of its veth.
        """
        # The firewall first: at no moment is there a route that the firewall does not guard yet.
        await self.firewall.apply(steps.firewall)
        taken = await self._apply_routes(steps.routes, macs)
        await self.device.apply(steps.peers)
        return replace(steps, routes=taken)

    async def remove_made(self) -> None:
        """Removes what was not there before this agent, which does not start: it leaves nothing behind."""
        if self.made_device:
            await self.device.remove()
        if self.made_firewall:
            await self.firewall.remove()

    async def remove(self) -> None:
        """Removes everything that the agent has made on this host, except that it still forwards packets."""
        await self.device.remove()
        for link in self.links.named(LINK_PREFIX):
            self.links.remove(link)
        await self.firewall.remove()  # last: as long as there is a link, its packets are filtered

    async def _apply_routes(self, steps: Iterable[RouteStep], macs: Mapping[str, str]) -> tuple[RouteStep, ...]:
        taken: list[RouteStep] = []
        for step in steps:
            match step:
                case AddAddress(address):
                    enable_ipv6(self.device_name)  # a host may switch it off for new links: default.disable_ipv6
                    self.links.add_address(self.device_name, address)
                case RemoveAddress(address):
                    self.links.remove_address(self.device_name, address)
                case RoutePrefix():
                    self.links.set_route(str(self.platform.prefix), self.device_name)
                case AddWorkload(link, address):
                    enable_ipv6(link)  # which somebody may have switched off, and all that was there went with it
                    try:
                        self.links.set_neighbour(str(address), macs[link], link)
                        self.links.set_route(f"{address}/128", link)
                    except LinkGone:
                        continue  # a workload can remove it at any moment, and must hold up no other by that
                case RemoveWorkload(link, address):
                    self.links.remove_route(f"{address}/128", link)
            taken.append(step)
        return tuple(taken)
