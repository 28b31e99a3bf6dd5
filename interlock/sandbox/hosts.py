"""Hosts on one machine, made of namespaces for network, mounts and processes, and joined by a bridge.

    underlay ── a bridge in a namespace of its own
       └─ host ── eth0 with 192.0.2.N and 2001:db8::N; /run, /etc, /proc of its own; ends with its first process
            └─ workload ── a network namespace with nothing but a loopback, until it is attached

Nothing outside the namespaces is touched. What runs in a host ends with the host.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import IO, Any, TypeVar

from interlock.errors import SandboxFailed
from interlock.sandbox import namespaces
from interlock.sandbox.namespaces import CLONE_NEWNET, CLONE_NEWNS, CLONE_NEWPID, Namespace, call_inside

T = TypeVar("T")

ROOT = Path(__file__).parents[2]  # where Python finds the product: a clone, or what it is installed in
V4, V6 = "192.0.2.", "2001:db8::"  # the underlay; RFC 5737 and RFC 3849: nobody is reached by mistake
CONTROL = 253  # the end of the addresses of the machine that the control plane runs on: the bridge itself
PREFIX = "interlock-mesh"
DEADLINE = 60.0  # seconds for a command, or for a host to boot; far less, unless the machine is very busy

SHARED = Path("/run/sandbox")  # where it is there: a folder that all hosts have in common

# The host's first process. /etc is the machine's own below what is written to it here. /run is new, but for the network
# namespaces: those of the machine appear there as they are made, as a container runtime's would.
_BOOT = f"""
set -e
mount -t tmpfs -o mode=755 host "$0"
mkdir -p "$0/run/netns" "$0/run/lock" "$0/etc" "$0/work"
mount --rbind /run/netns "$0/run/netns"
if [ -d {SHARED} ]; then mkdir "$0{SHARED}"; mount --rbind {SHARED} "$0{SHARED}"; fi
mount -t overlay -o "lowerdir=/etc,upperdir=$0/etc,workdir=$0/work" etc /etc
mount --rbind "$0/run" /run
mount -t proc proc /proc
mount -t sysfs sysfs /sys
umount --lazy "$0"
rm -rf /etc/netns /etc/resolv.conf /etc/nsswitch.conf /etc/hosts
echo "nameserver 192.0.2.254" >/etc/resolv.conf # there is none
echo "hosts: files dns" >/etc/nsswitch.conf
printf "127.0.0.1 localhost\\n::1 localhost\\n" >/etc/hosts
echo 53 >/proc/sys/net/ipv4/ip_unprivileged_port_start
trap "" CHLD # so that nobody's orphans stay as zombies
echo ready
exec cat
"""
_ENTER_WORKLOAD = 'mount --bind "$0" /etc/resolv.conf && exec "$@"'


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
            raise SandboxFailed(f"the host {self.name} did not boot")

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
    def first_process(self) -> int:
        """The id of its first process, as seen from outside."""
        return self._init.pid

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
        with contextlib.suppress(SandboxFailed):
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

    def close(self) -> None:
        """Removes all of it."""
        for host in self._hosts:
            host.kill()
        self.namespace.remove()


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
        raise SandboxFailed(f"{' '.join(command)}: {result.returncode}\n{result.stdout}{result.stderr}")
    return result
