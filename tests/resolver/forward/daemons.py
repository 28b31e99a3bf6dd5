"""Real upstreams: Knot with a signed zone of its own, and Unbound, which resolves from it and checks its signatures."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dns.dnssec
import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import pytest

from tests.resolver.forward.liar import CHAIN, LARGE
from tests.resolver.servers import DEADLINE

KNOT_ZONE = "knot.example."
ANCHOR_DIGEST = "SHA256"


@contextmanager
def running_knot(directory: Path) -> Iterator[str]:
    """Knot with `KNOT_ZONE`, signed; gives its address as an upstream is written."""
    port = _free_port()
    chain = [line.replace("@", f"chain.{KNOT_ZONE}").replace("net.", KNOT_ZONE) for line in CHAIN]
    lines = [
        "@ 300 IN SOA ns hostmaster 1 3600 600 86400 60",
        "@ 300 IN NS ns",
        "ns 300 IN A 127.0.0.1",
        "small 300 IN A 192.0.2.1",
        "small 300 IN MX 10 mail",
        "mail 300 IN A 192.0.2.2",
        *(line.replace("@", "large") for line in LARGE),
        *chain,
        "*.wild 300 IN A 192.0.2.3",
        "leads 300 IN CNAME elsewhere.example.",
        "old 300 IN DNAME new",
        "x.new 300 IN A 192.0.2.4",
        "sub 300 IN NS ns.sub",
        "ns.sub 300 IN A 127.0.0.1",
    ]
    directory.joinpath("zone").write_text(f"$ORIGIN {KNOT_ZONE}\n" + "\n".join(lines) + "\n")
    directory.joinpath("knot.conf").write_text(
        f"""
server:
  rundir: {directory}
  listen: 127.0.0.1@{port}
  user: {directory.owner()}
database:
  storage: {directory}
log:
  - target: stderr
    any: info
policy:
  - id: one-key
    algorithm: ecdsap256sha256
    single-type-signing: on
    nsec3: off
zone:
  - domain: {KNOT_ZONE}
    storage: {directory}
    file: zone
    zonefile-load: difference-no-serial
    zonefile-sync: -1
    journal-content: all
    dnssec-signing: on
    dnssec-policy: one-key
"""
    )
    with _running("knotd", ["-c", str(directory / "knot.conf")], directory / "knot.log", port, f"small.{KNOT_ZONE}"):
        yield f"127.0.0.1:{port}"


@contextmanager
def running_unbound(directory: Path, knot: str) -> Iterator[str]:
    """Unbound, which asks ``knot`` for `KNOT_ZONE` and validates it; all else it cannot reach."""
    port, (host, knot_port) = _free_port(), knot.split(":")
    directory.joinpath("unbound.conf").write_text(
        f"""
server:
  directory: "{directory}"
  chroot: ""
  username: ""
  pidfile: ""
  use-syslog: no
  interface: 127.0.0.1@{port}
  do-ip6: no
  do-not-query-localhost: no
  edns-buffer-size: 1232
  module-config: "validator iterator"
  trust-anchor: "{_anchor(host, int(knot_port))}"
stub-zone:
  name: "{KNOT_ZONE}"
  stub-addr: {host}@{knot_port}
forward-zone:
  name: "."
  forward-addr: 127.0.0.1@9
"""
    )
    arguments = ["-d", "-c", str(directory / "unbound.conf")]
    with _running("unbound", arguments, directory / "unbound.log", port, f"small.{KNOT_ZONE}"):
        yield f"127.0.0.1:{port}"


@contextmanager
def _running(program: str, arguments: list[str], log: Path, port: int, name: str) -> Iterator[None]:
    binary = shutil.which(program, path="/usr/sbin:/usr/bin")
    if binary is None:
        pytest.skip(f"no {program} on this machine: install the package {program.removesuffix('d')}")
    with log.open("wb") as output:
        process = subprocess.Popen([binary, *arguments], stdout=output, stderr=output)
        try:
            _wait_until_it_answers(process, port, name, log)
            yield
        finally:
            process.terminate()
            process.wait(DEADLINE)


def _wait_until_it_answers(process: subprocess.Popen[bytes], port: int, name: str, log: Path) -> None:
    query = dns.message.make_query(name, "A", want_dnssec=True)
    deadline = time.monotonic() + 2 * DEADLINE
    while time.monotonic() < deadline and process.poll() is None:
        try:
            answer = dns.query.udp(query, "127.0.0.1", timeout=0.2, port=port)
        except (OSError, dns.exception.DNSException):
            continue
        if answer.rcode() == dns.rcode.NOERROR and len(answer.answer) == 2:
            return
    raise AssertionError(f"{log.name} tells why it does not answer for {name}:\n{log.read_text()}")


def _anchor(host: str, port: int) -> str:
    query = dns.message.make_query(KNOT_ZONE, "DNSKEY", want_dnssec=True)
    answer = dns.query.udp(query, host, timeout=DEADLINE, port=port)
    keys = answer.find_rrset(answer.answer, dns.name.from_text(KNOT_ZONE), dns.rdataclass.IN, dns.rdatatype.DNSKEY)
    ds = dns.dnssec.make_ds(dns.name.from_text(KNOT_ZONE), keys[0], ANCHOR_DIGEST)
    return f"{KNOT_ZONE} DS {ds.to_text()}"


def _free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
