"""The peers: other DNS servers from Debian's packages, each with one worker, the same names and all logging off.

A peer is a function that writes its configuration into a directory and gives its command. To add one, write that
function and name it in `PEERS`.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench import worlds
from bench.client import Client, has_answer, pack_question
from bench.processes import LOOPBACK, Process, free_port, running
from bench.worlds import APEX
from zones.model import Environment

_DAEMONS = "/usr/sbin:/usr/bin:/sbin:/usr/local/sbin:/usr/local/bin"


@dataclass(frozen=True, slots=True)
class Peer:
    """A server to compare with."""

    name: str
    """Its name in tables and on the command line."""
    binary: str
    """Its program."""
    package: str
    """The Debian packages that have it."""
    version: tuple[str, ...]
    """The arguments with which the program prints its version."""
    configure: Callable[[Path, int, Environment], Sequence[str]]
    """Writes its configuration into a directory, for a port and an environment, and gives the program's arguments."""

    @property
    def path(self) -> str | None:
        """The path of its program; None if it is not installed."""
        return shutil.which(self.binary, path=_DAEMONS)

    def describe(self) -> str:
        """Its program and version."""
        ended = subprocess.run([self.path or "", *self.version], capture_output=True, text=True)
        found = re.search(r"[vV]ersion\s+([\d.]+)|(?:BIND|Server) ([\d.]+\d)", ended.stdout + ended.stderr)
        return f"{self.binary} {found[1] or found[2]}" if found else self.binary


@contextmanager
def running_peer(peer: Peer, directory: Path, core: int, served: Environment) -> Iterator[tuple[Process, int]]:
    """``peer`` with the names of ``served``, ready to answer; gives it and its port."""
    if peer.path is None:
        raise FileNotFoundError(peer.binary)
    port = free_port()
    worlds.write_zone_file(directory / "zone", served)
    command = [peer.path, *peer.configure(directory, port, served)]
    service = next(iter(served.services))
    first = pack_question(f"{next(iter(served.services[service].instances))}.{service}")
    with running(peer.name, command, directory, core) as process, Client(port, timeout=0.5) as client:
        process.wait_until(lambda: has_answer(client.ask(first)))
        yield process, port


def _knot(directory: Path, port: int, served: Environment) -> Sequence[str]:
    (directory / "knot.conf").write_text(f"""
server:
    rundir: {directory}
    listen: {LOOPBACK}@{port}
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
log:
  - target: stderr
    any: warning
database:
    storage: {directory}
zone:
  - domain: {APEX}
    file: {directory}/zone
    zonefile-sync: -1
    journal-content: none
""")
    return ["-c", str(directory / "knot.conf")]


def _nsd(directory: Path, port: int, served: Environment) -> Sequence[str]:
    (directory / "nsd.conf").write_text(f"""
server:
    ip-address: {LOOPBACK}@{port}
    server-count: 1
    username: ""
    chroot: ""
    pidfile: ""
    database: ""
    zonesdir: {directory}
    zonelistfile: {directory}/zone.list
    xfrdfile: {directory}/xfrd.state
    xfrdir: {directory}
    rrl-ratelimit: 0
    minimal-responses: yes
remote-control:
    control-enable: no
zone:
    name: {APEX}
    zonefile: {directory}/zone
""")
    return ["-d", "-c", str(directory / "nsd.conf")]


def _unbound(directory: Path, port: int, served: Environment) -> Sequence[str]:
    (directory / "unbound.conf").write_text(f"""
server:
    interface: {LOOPBACK}@{port}
    access-control: ::/0 allow
    num-threads: 1
    do-daemonize: no
    username: ""
    chroot: ""
    pidfile: ""
    directory: {directory}
    use-syslog: no
    verbosity: 0
    module-config: "iterator"
    minimal-responses: yes
    local-zone: "{APEX}." transparent
    private-domain: "{APEX}"
remote-control:
    control-enable: no
auth-zone:
    name: {APEX}
    zonefile: {directory}/zone
    for-upstream: no
    for-downstream: yes
    fallback-enabled: no
""")
    return ["-d", "-c", str(directory / "unbound.conf")]


def _powerdns(directory: Path, port: int, served: Environment) -> Sequence[str]:
    (directory / "named.conf").write_text(f'zone "{APEX}" {{ type master; file "{directory}/zone"; }};\n')
    return [
        "--config-dir=" + str(directory), "--launch=bind", f"--bind-config={directory}/named.conf",
        f"--local-address={LOOPBACK}", f"--local-port={port}", f"--socket-dir={directory}", "--daemon=no",
        "--guardian=no", "--receiver-threads=1", "--distributor-threads=1", "--loglevel=3", "--disable-syslog=yes",
        "--zone-cache-refresh-interval=0",
    ]  # fmt: skip


def _bind(directory: Path, port: int, served: Environment) -> Sequence[str]:
    (directory / "named.conf").write_text(f"""
options {{
    directory "{directory}";
    pid-file none;
    session-keyfile none;
    listen-on {{ none; }};
    listen-on-v6 port {port} {{ {LOOPBACK}; }};
    recursion no;
    minimal-responses yes;
    notify no;
}};
controls {{ }};
logging {{ category default {{ null; }}; }};
zone "{APEX}" {{ type primary; file "{directory}/zone"; }};
""")
    return ["-f", "-n", "1", "-c", str(directory / "named.conf")]


def _dnsmasq(directory: Path, port: int, served: Environment) -> Sequence[str]:
    lines = [
        f"{instance.address} {id_}.{name}.{APEX} {name}.{APEX}"
        for name, service in served.services.items()
        for id_, instance in service.instances.items()
    ]
    (directory / "hosts").write_text("\n".join(lines) + "\n")
    return [
        "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", f"--addn-hosts={directory}/hosts",
        f"--port={port}", f"--listen-address={LOOPBACK}", "--bind-interfaces", "--pid-file=", "--user=root",
        f"--local=/{APEX}/", "--local-ttl=5",
    ]  # fmt: skip


PEERS = {
    peer.name: peer
    for peer in (
        Peer("knot", "knotd", "knot", ("--version",), _knot),
        Peer("nsd", "nsd", "nsd", ("-v",), _nsd),
        Peer("powerdns", "pdns_server", "pdns-server pdns-backend-bind", ("--version",), _powerdns),
        Peer("unbound", "unbound", "unbound", ("-V",), _unbound),
        Peer("bind", "named", "bind9", ("-v",), _bind),
        Peer("dnsmasq", "dnsmasq", "dnsmasq-base", ("--version",), _dnsmasq),
    )
}
