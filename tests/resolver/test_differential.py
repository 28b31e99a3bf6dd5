"""The same zone served by Knot DNS: the same rcode, AA and sections for every name, type and transport.

What exists is written into a zone file record by record; what follows from it (NODATA, NXDOMAIN, empty non-terminals,
wildcards, chains, the SOA of a negative answer) each server works out for itself. `WANTED` lists the differences that
are on purpose.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import dns.message
import dns.rcode
import pytest
import pytest_asyncio

from resolver.server import Resolver
from tests import worlds
from tests.resolver.cases import CASES, ZONE
from tests.resolver.messages import query, read
from tests.resolver.servers import DEADLINE, ask_tcp, ask_udp, serving
from zones.names import Name
from zones.nodes import Origin
from zones.zone import Zone

TYPES = ("A", "AAAA", "CNAME", "TXT", "SRV", "SOA", "NS", "PTR", "MX", "HTTPS", "TYPE65280")

WANTED = {  # what differs → why
    "additional": "Knot adds the addresses of SRV and NS targets; some clients take them for answers (rule 16)",
    "loop": "a loop of CNAMEs is SERVFAIL with the reason; Knot gives as much of the chain as it followed",
}

# one.<service> is left out below: it has one of several addresses, which no other server does.
LOOP = (f"loop.{ZONE}", f"pool.{ZONE}")  # two aliases of each other
SOURCE = worlds.PRODUCTION_SOURCE

FOLLOWS = {Origin.WILDCARD, Origin.EMPTY_NON_TERMINAL}


def names() -> list[str]:
    """Every name that the cases ask of the zone, and what stands above and below it."""
    zone = Name.parse(ZONE)
    asked = {
        Name.parse(case.name if case.name.endswith(".") else f"{case.name}.{ZONE}")
        for case in CASES
        if case.name != "@"
    }
    inside = {name for name in asked if name.below(zone)}
    around = {name.parent for name in inside} | {name.child("below") for name in inside if len(name) < 200}
    crowd = {Name.parse(f"c{number:03d}.crowd.{ZONE}") for number in range(60)}
    instances = {
        Name.parse(f"{name}.{ZONE}") for name in ("a2.api", "a4.api", "s1.secret", "us.region.api", "all.single")
    }
    ports = {
        Name.parse(f"{name}.{ZONE}") for name in ("_metrics._tcp.api", "_http._tcp.crowd", "*.alias", "deep.under.apps")
    }
    loop = set(map(Name.parse, LOOP))
    found = inside | around | crowd | instances | ports | loop
    return sorted(str(name) for name in found if name.below(zone) is not None)


def zone_file(zone: Zone) -> str:
    lines = [f"$ORIGIN {ZONE}"]
    for name in [ZONE, *names(), f"long.{ZONE}"]:
        node = zone.find(Name.parse(name))
        if node and node.origin not in FOLLOWS:
            # A service without instances exists all the same: a record that no test asks for makes it exist for Knot.
            lines += [str(rrset) for rrset in node.rrsets.values()] or [rf"{name} 5 IN TYPE65281 \# 0"]
    return "\n".join(dict.fromkeys(line for text in lines for line in text.splitlines())) + "\n"


@pytest.fixture(scope="module")
def knot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    knotd = shutil.which("knotd", path="/usr/sbin:/usr/bin")
    if knotd is None:
        pytest.skip("no knotd on this machine: install the package knot")
    directory = tmp_path_factory.mktemp("knot")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        address = probe.getsockname()
    (directory / "zone").write_text(zone_file(worlds.compiled(worlds.production())))
    (directory / "knot.conf").write_text(
        f"""
server:
  rundir: {directory}
  listen: {address[0]}@{address[1]}
  user: {Path("/proc/self").owner()}
database:
  storage: {directory}
log:
  - target: stderr
    any: info
zone:
  - domain: {ZONE}
    storage: {directory}
    file: zone
    semantic-checks: off
"""
    )
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen([knotd, "-c", str(directory / "knot.conf")], stdout=log, stderr=log)
        try:
            _wait_for(address, process, directory / "log")
            yield address
        finally:
            process.terminate()
            process.wait(DEADLINE)


def _wait_for(address: tuple[str, int], process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 10
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(0.1)
        while time.monotonic() < deadline and process.poll() is None:
            sock.sendto(query("@", "SOA"), address)
            try:
                if read(sock.recv(4096)).rcode() == dns.rcode.NOERROR:
                    return
            except OSError:
                continue
    raise AssertionError(f"knotd does not serve the zone:\n{log.read_text()}")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[Resolver]:
    async with serving(worlds.compiled(worlds.production())) as resolver:
        yield resolver


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("name", [name for name in names() if name not in LOOP and not name.startswith("one.")])
async def test_knot_answers_the_same(name: str, server: Resolver, knot: tuple[str, int]) -> None:
    for rtype in TYPES:
        packet = query(name, rtype, payload=1232)
        ours, ours_udp = [read(await ask(server.addresses[0], packet, SOURCE)) for ask in (ask_tcp, ask_udp)]
        theirs, theirs_udp = [read(await ask(knot, packet, SOURCE)) for ask in (ask_tcp, ask_udp)]
        assert content(ours) == content(theirs), rtype
        if is_large(ours):
            # How much of a large set is given over UDP is each server's own choice (docs/clients.md, rule 21).
            assert ours_udp.rcode() == theirs_udp.rcode() == dns.rcode.NOERROR
            assert records(ours_udp) < records(ours)
            assert records(theirs_udp) < records(theirs)
        else:
            assert content(ours_udp) == content(theirs_udp) == content(ours), rtype


def is_large(message: dns.message.Message) -> bool:
    return len(message.to_wire()) > 1232


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("ask", [ask_udp, ask_tcp])
@pytest.mark.parametrize("name", LOOP)
async def test_a_loop_is_what_differs(
    name: str, ask: Callable[..., Awaitable[bytes]], server: Resolver, knot: tuple[str, int]
) -> None:
    for rtype in TYPES:
        packet = query(name, rtype, payload=1232)
        ours, theirs = read(await ask(server.addresses[0], packet, SOURCE)), read(await ask(knot, packet, SOURCE))
        assert theirs.rcode() == dns.rcode.NOERROR
        assert records(theirs)
        if rtype == "CNAME":  # it is asked of the alias itself
            assert content(ours) == content(theirs)
        else:
            assert ours.rcode() == dns.rcode.SERVFAIL
            assert records(ours) == set()


def records(message: dns.message.Message) -> set[str]:
    return {line for rrset in message.answer for line in rrset.to_text().splitlines()}


def content(message: dns.message.Message) -> dict[str, object]:
    """What a client makes of a message: rcode, AA, and each section's records as a set, with their TTLs."""
    return {
        "rcode": dns.rcode.to_text(message.rcode()),
        "aa": bool(message.flags & dns.flags.AA),
        "answer": sorted(line for rrset in message.answer for line in rrset.to_text().splitlines()),
        "authority": sorted(line for rrset in message.authority for line in rrset.to_text().splitlines()),
    }
