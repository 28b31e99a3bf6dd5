"""Hosts of the mesh, made of namespaces for network, mounts and processes, and joined by a bridge.

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
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import IO, Any, TypeVar

from tests import namespaces, wireguard
from tests.namespaces import CLONE_NEWNET, CLONE_NEWNS, CLONE_NEWPID, Namespace, call_inside
from tests.waiting import scaled

T = TypeVar("T")

ROOT = Path(__file__).parents[2]
V4, V6 = "192.0.2.", "2001:db8::"  # the underlay; RFC 5737 and RFC 3849: no test reaches anybody by mistake
SITE_V4, SITE_V6 = "10.0.0.", "fd00::"  # of a site behind NAT
CONTROL = 253  # the end of the addresses of the machine that the control plane runs on: the bridge itself
PREFIX = "interlock-mesh"
NEEDED = {
    # command: package
    "ip": "iproute2", "nft": "nftables", "wg": "wireguard-tools", "tcpdump": "tcpdump",
    "unshare": "util-linux", "mount": "mount", "cc": "gcc", "musl-gcc": "musl-tools",
}  # fmt: skip
DEADLINE = scaled(20.0)  # seconds for a command, or for a host to boot

# The host's first process. /etc is the machine's own below what is written to it here. /run is new, but for the network
# namespaces: those of the machine appear there as they are made, as a container runtime's would.
_BOOT = """
set -e
mount -t tmpfs -o mode=755 host "$0"
mkdir -p "$0/run/netns" "$0/run/lock" "$0/etc" "$0/work"
mount --rbind /run/netns "$0/run/netns"
mount -t overlay -o "lowerdir=/etc,upperdir=$0/etc,workdir=$0/work" etc /etc
mount --rbind "$0/run" /run
mount -t proc proc /proc
mount -t sysfs sysfs /sys
umount --lazy "$0"
rm -rf /etc/netns /etc/resolv.conf
echo "nameserver 192.0.2.254" >/etc/resolv.conf # there is none
echo "hosts: files dns" >/etc/nsswitch.conf
printf "127.0.0.1 localhost\\n::1 localhost\\n" >/etc/hosts
echo 53 >/proc/sys/net/ipv4/ip_unprivileged_port_start
trap "" CHLD # so that nobody's orphans stay as zombies
echo ready
exec cat
"""
_ENTER_WORKLOAD = 'mount --bind "$0" /etc/resolv.conf && exec "$@"'


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


class Host:
    """A host on the underlay. ``number`` is the end of its addresses."""

    def __init__(self, name: str, number: int, underlay: Underlay) -> None:
        self.name, self.number = name, number
        self.v4, self.v6 = f"{underlay.v4}{number}", f"{underlay.v6}{number:x}"
        self.port = f"to-{name}"
        """The bridge's end of its cable."""
        self._underlay = underlay
        self._workloads: list[Workload] = []
        self._children: list[subprocess.Popen[bytes]] = []
        self.boot()

    def boot(self) -> None:
        """Starts it as an empty host that has nothing but its addresses on the underlay."""
        self.namespace = namespaces.make(PREFIX, self.name)
        self._plug_in()
        with tempfile.TemporaryDirectory(prefix="interlock-mesh-") as scratch:
            self._init = call_inside([(self.namespace.path, CLONE_NEWNET)], lambda: _start_init(scratch))
            assert self._init.stdout
            booted = self._init.stdout.readline()
        if booted != b"ready\n":
            self.kill()
            raise RuntimeError(f"the host {self.name} did not boot")

    def _plug_in(self) -> None:
        mac = f"address 02:00:c0:00:02:{self.number:02x}"  # always the same: its neighbours remember it over a boot
        self._underlay.namespace.ip(
            [
                # Datagrams are cut up before the cable, so that a capture sees each as it would be on a real one.
                f"link add {self.port} type veth peer name eth0 {mac} netns {self.namespace.name} gso_max_segs 1",
                f"link set {self.port} addrgenmode none",
                f"link set {self.port} master br0",
                f"link set {self.port} up",
            ]
        )
        self.namespace.ip(
            [
                "link set lo up",
                "link set eth0 addrgenmode none",
                f"address add {self.v4}/24 dev eth0",
                f"address add {self.v6}/64 dev eth0 nodad",
                f"address add fe80::{self.number:x}/64 dev eth0 nodad",
                "link set eth0 up",
                *(f"route add default via {gateway}" for gateway in self._underlay.gateways),
            ]
        )

    @property
    def root(self) -> Path:
        """Its file system, as seen from outside; gone when the host is."""
        return Path(f"/proc/{self._init.pid}/root")

    @property
    def is_up(self) -> bool:
        return self._init.poll() is None

    def namespace_paths(self, network: Namespace | None = None) -> list[tuple[Path, int]]:
        """The paths of its namespaces and their kinds. ``network`` takes the place of its own network namespace."""
        of_init = Path(f"/proc/{self._init.pid}/ns")
        return [
            ((network or self.namespace).path, CLONE_NEWNET),
            (of_init / "pid", CLONE_NEWPID),
            (of_init / "mnt", CLONE_NEWNS),
        ]

    def call(self, function: Callable[[], T]) -> T:
        """What ``function`` returns when it is called inside: its sockets are there, and its paths."""
        return call_inside(self.namespace_paths(), function)

    def run(
        self, command: Sequence[str], *, check: bool = True, text: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """``command``, run to its end inside, with ``text`` as its input."""
        return _run(self.namespace_paths(), command, check, text)

    def popen(
        self, command: Sequence[str], log: IO[bytes], environ: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """``command``, started inside; its output goes to ``log``."""
        return self.start(
            self.namespace_paths(),
            lambda: subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=ROOT,
                env={**os.environ, **(environ or {})},
                start_new_session=True,
            ),
        )

    def start(
        self, namespace_paths: list[tuple[Path, int]], popen: Callable[[], subprocess.Popen[bytes]]
    ) -> subprocess.Popen[bytes]:
        """Starts a process by ``popen`` in ``namespace_paths``; the process ends with this host."""
        child = call_inside(namespace_paths, popen)
        self._children.append(child)
        return child

    def workload(self, kind: str = "w") -> Workload:
        """A new workload of this host, not attached yet."""
        made = Workload(self, namespaces.make(PREFIX, kind))
        self._workloads.append(made)
        return made

    def unplug(self) -> None:
        """Pulls its network cable."""
        self._underlay.namespace.ip([f"link set {self.port} down"])

    def plug(self) -> None:
        """Plugs its network cable in again."""
        self._underlay.namespace.ip([f"link set {self.port} up"])

    def kill(self) -> None:
        """Its power fails: all processes in it and in its workloads are gone at once, and so is its network."""
        self._init.kill()
        # The first process ends only once all others of its namespace were waited for; this process is their parent.
        for child in self._children:
            child.wait()
        self._children.clear()
        self._init.communicate()
        for workload in self._workloads:
            workload.remove()
        self._workloads.clear()
        self.namespace.remove()
        # The kernel removes a namespace with a delay. Without its cable, the host is off the underlay at once.
        with contextlib.suppress(RuntimeError):
            self._underlay.namespace.ip([f"link delete {self.port}"])


class Workload:
    """A network namespace on ``host``, as a container runtime makes it: nothing in it but a loopback."""

    def __init__(self, host: Host, namespace: Namespace) -> None:
        self.host = host
        self.namespace = namespace
        self._directory = tempfile.TemporaryDirectory(prefix="interlock-mesh-")
        self.resolv_conf = Path(self._directory.name) / "resolv.conf"
        self.resolv_conf.write_text("# not attached\n")
        self.attach_answer: Mapping[str, Any] = {}
        """The agent's answer when it was attached; see `Node.attach`."""
        namespace.ip(["link set lo up"])

    @property
    def path(self) -> str:
        """The path of its network namespace, as the agent needs it."""
        return str(self.namespace.path)

    @property
    def address(self) -> str:
        """The address that it was attached with."""
        address: str = self.attach_answer["address"]
        return address

    def call(self, function: Callable[[], T]) -> T:
        """What ``function`` returns when it is called inside its network."""
        return self.namespace.call(function)

    def run(
        self, command: Sequence[str], resolv_conf: Path | None = None, *, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """``command``, run to its end inside, with the workload's resolv.conf, as it is now, or another."""
        return _run(self.host.namespace_paths(self.namespace), self._entering(command, resolv_conf), check)

    def popen(self, command: Sequence[str], log: IO[bytes]) -> subprocess.Popen[bytes]:
        """``command``, started inside, with pipes as its input and output. It ends with its host."""
        return self.host.start(
            self.host.namespace_paths(self.namespace),
            lambda: subprocess.Popen(
                self._entering(command, None),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            ),
        )

    def remove(self) -> None:
        """Removes it, as a runtime does when the container has ended."""
        self.namespace.remove()
        self._directory.cleanup()

    def _entering(self, command: Sequence[str], resolv_conf: Path | None) -> list[str]:
        mounts = ["unshare", "--mount", "--propagation", "slave", "sh", "-c", _ENTER_WORKLOAD]
        return [*mounts, str(resolv_conf or self.resolv_conf), *command]


class Underlay:
    """The network that joins the hosts, and the control plane's machine: its namespace. Nothing else is on it."""

    control: Sequence[str] = (f"{V4}{CONTROL}", f"{V6}{CONTROL:x}")
    """The addresses of the control plane's machine; none, for it is not on this network."""
    v4, v6 = V4, V6
    """How the addresses of its hosts begin."""
    gateways: Sequence[str] = ()
    """The addresses of its router; none, for it has none."""

    def __init__(self) -> None:
        self.namespace = namespaces.make(PREFIX, "underlay")
        self._numbers = count(1)
        self._hosts: list[Host] = []
        self.sites: list[Site] = []
        self.namespace.ip(
            [
                "link add br0 type bridge forward_delay 0 mcast_snooping 0",
                "link set br0 addrgenmode none",
                # Else it has the lowest address of its ports, and another one when a host comes or goes: the hosts'
                # packets to the control plane would be lost until they ask again for its address.
                f"link set br0 address 02:00:c0:00:02:{CONTROL:02x}",
                "link set lo up",
                *(f"address add {address}/{64 if ':' in address else 24} dev br0 nodad" for address in self.control),
                "link set br0 up",
            ]
        )

    def popen(self, command: Sequence[str], log: IO[bytes], environ: Mapping[str, str]) -> subprocess.Popen[bytes]:
        """``command``, started on the control plane's machine; its output goes to ``log``."""
        return self.namespace.call(
            lambda: subprocess.Popen(command, stdout=log, stderr=log, cwd=ROOT, env=dict(environ))
        )

    def host(self, name: str) -> Host:
        """A new host, with the next address."""
        made = Host(name, next(self._numbers), self)
        self._hosts.append(made)
        return made

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
        for host in self._hosts:
            host.kill()
        self.namespace.remove()


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


def _start_init(scratch: str) -> subprocess.Popen[bytes]:
    namespaces.unshare(CLONE_NEWPID)
    command = ["unshare", "--mount", "--propagation", "slave", "sh", "-c", _BOOT, scratch]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)


def _run(
    namespace_paths: list[tuple[Path, int]], command: Sequence[str], check: bool, text: str | None = None
) -> subprocess.CompletedProcess[str]:
    result = call_inside(
        namespace_paths,
        lambda: subprocess.run(
            command, input=text or "", capture_output=True, text=True, check=False, cwd=ROOT, timeout=DEADLINE
        ),
    )
    if check and result.returncode:
        raise RuntimeError(f"{' '.join(command)}: {result.returncode}\n{result.stdout}{result.stderr}")
    return result
