"""The hosts of `interlock.sandbox` on an underlay, and sites behind NAT.

    underlay ── a bridge in a namespace of its own
       ├─ host ── eth0 with 192.0.2.N and 2001:db8::N; /run, /etc, /proc of its own; ends with its first process
       │    └─ workload ── a network namespace with nothing but a loopback, until it is attached
       └─ router ── of a site, whose hosts leave it with the router's address (NAT)
            └─ host ── eth0 with 10.0.0.N and fd00::N

Nothing outside the namespaces is touched. What runs in a host ends with the host, and a host ends with the test.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from interlock.sandbox import hosts, namespaces
from interlock.sandbox.hosts import PREFIX, ROOT, V4, V6, Host, Workload
from tests import wireguard

__all__ = ["PREFIX", "ROOT", "V4", "V6", "Host", "Site", "Underlay", "Workload", "sweep", "underlay", "why_not"]

SITE_V4, SITE_V6 = "10.0.0.", "fd00::"  # of a site behind NAT
NEEDED = {
    # command: package
    "ip": "iproute2", "nft": "nftables", "wg": "wireguard-tools", "tcpdump": "tcpdump",
    "unshare": "util-linux", "mount": "mount", "cc": "gcc", "musl-gcc": "musl-tools",
}  # fmt: skip


def why_not() -> str:
    """Why this machine cannot run a mesh; empty if it can."""
    if os.getuid() != 0:
        return "not root, and namespaces need it"
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    missing = [package for command, package in NEEDED.items() if not shutil.which(command, path=path)]
    if missing:
        return f"not installed: {', '.join(missing)} (tests/setup installs them)"
    return wireguard.why_neither()


def sweep() -> None:
    """Removes the namespaces of runs that were killed. What ran in their hosts has ended with them."""
    namespaces.sweep(PREFIX)


class Underlay(hosts.Underlay):
    """An underlay of tests, which may have sites behind NAT."""

    def __init__(self) -> None:
        super().__init__()
        self.sites: list[Site] = []

    def site(self) -> Site:
        """A new site, with the next address as the address of its router."""
        made = Site(self, next(self._numbers))
        self.sites.append(made)
        return made

    def carried(self) -> int:
        """The number of octets that the hosts have sent over it so far."""
        command = ["ip", "-netns", self.namespace.name, "-json", "-statistics", "link", "show", "master", "br0"]
        ports = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
        return sum(port["stats64"]["rx"]["bytes"] for port in ports)

    def close(self) -> None:
        """Removes all of it."""
        for site in self.sites:
            site.close()
        super().close()


class Site(Underlay):
    """A network of its own behind a router, which gives its address to all that leaves, as a home's or an office's.

    ``number`` is the end of the router's addresses on ``outside``.
    """

    control = ()
    v4, v6 = SITE_V4, SITE_V6
    gateways = (f"{SITE_V4}254", f"{SITE_V6}fe")

    def __init__(self, outside: Underlay, number: int) -> None:
        super().__init__()
        self._outside = outside
        self._set_number(number)
        self.router = namespaces.make(PREFIX, "router")
        v4, v6 = self.gateways
        for network, link, addresses in (
            (outside, "outside", (f"{self.v4_outside}/24", f"{self.v6_outside}/64")),
            (self, "inside", (f"{v4}/24", f"{v6}/64")),
        ):
            network.namespace.ip(
                [
                    f"link add router{number} type veth peer name {link} netns {self.router.name}",
                    f"link set router{number} addrgenmode none",
                    f"link set router{number} master br0",
                    f"link set router{number} up",
                ]
            )
            self.router.ip(
                [
                    f"link set {link} addrgenmode none",
                    # With a link-local one: neighbours that make sure of each other ask from theirs.
                    *(f"address add {address} dev {link} nodad" for address in (*addresses, f"fe80::{number:x}/64")),
                    f"link set {link} up",
                ]
            )
        self.router.call(_forward)
        self._nft(
            "add table inet nat",
            "add chain inet nat in { type nat hook prerouting priority dstnat; }",
            "add chain inet nat out { type nat hook postrouting priority srcnat; }",
            "add rule inet nat out oifname outside masquerade",
        )

    def __contains__(self, endpoint: str) -> bool:
        """Whether ``endpoint`` is one of the router's, outside."""
        return endpoint.rpartition(":")[0] in (self.v4_outside, f"[{self.v6_outside}]")

    def forward(self, port: int, inside: str) -> None:
        """Forwards a UDP port of the router's IPv4 address to the host ``inside``, also from inside."""
        self._nft(
            f"add rule inet nat in ip daddr {self.v4_outside} udp dport {port} dnat ip to {inside}",
            # For the reply must come back by the router.
            f"add rule inet nat out iifname inside oifname inside ip daddr {inside} udp dport {port} masquerade",
        )

    def renumber(self, number: int) -> None:
        """Gives the router other addresses outside, as a provider does; it forgets what it has translated so far."""
        before = f"{self.v4_outside}/24", f"{self.v6_outside}/64"
        self._set_number(number)
        after = f"{self.v4_outside}/24", f"{self.v6_outside}/64"
        self.router.ip([f"address delete {address} dev outside" for address in before])
        self.router.ip([f"address add {address} dev outside nodad" for address in after])

    def _set_number(self, number: int) -> None:
        self.v4_outside, self.v6_outside = f"{self._outside.v4}{number}", f"{self._outside.v6}{number:x}"

    def _nft(self, *commands: str) -> None:
        command = [*self.router.enter(), "nft", "; ".join(commands)]
        subprocess.run(command, check=True, capture_output=True)

    def close(self) -> None:
        """Removes all of it."""
        super().close()
        self.router.remove()


def _forward() -> None:
    for setting in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
        Path("/proc/sys/net", setting).write_text("1")


@contextlib.contextmanager
def underlay() -> Iterator[Underlay]:
    """An underlay for the length of a with-statement."""
    sweep()
    made = Underlay()
    try:
        yield made
    finally:
        made.close()
