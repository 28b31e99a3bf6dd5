"""Environments for tests: small, whole, and different from each other in everything but their names."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Collection
from ipaddress import ip_network
from typing import Any

from msgspec.structs import replace

from store.leases import Lease
from zones.addresses import Platform
from zones.edits import Edit, PutInstance, PutRecord, PutService, SetEnabled, apply
from zones.hosts import Host
from zones.keys import PublicKey
from zones.model import Environment, Port, RecordSet, State
from zones.names import EnvironmentId
from zones.placement import HostsAway
from zones.zone import Zone, compile_zone

PLATFORM = Platform()
NOW = 1_800_000_000_000  # Unix milliseconds, in every test to which the time does not matter
LONG_LEASE = 60_000  # milliseconds; a lease that does not end within a test

PRODUCTION = EnvironmentId("production")
STAGING = EnvironmentId("staging")

BINDINGS = {
    ip_network("127.0.0.2/32"): PRODUCTION,
    ip_network("127.0.0.3/32"): STAGING,
    ip_network("127.0.0.5/32"): EnvironmentId("deleted"),
}
ASKED = bytes([127, 0, 0, 1])  # the address that queries are sent to, where it says nothing by itself
PRODUCTION_SOURCE, STAGING_SOURCE, OUTSIDE_SOURCE, UNBOUND_SOURCE = "127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.5"


def public_key(number: int) -> PublicKey:
    """The ``number``-th public key, from 1, of machines that never run."""
    return PublicKey(b64encode(number.to_bytes(32, "big")).decode())


def lease_of(host: str) -> Lease:
    """The lease of the only agent that says it is ``host``."""
    return Lease(host, "i1")


def make_host(number: int, **fields: Any) -> Host:
    """The host ``h<number>``, with a key and an endpoint of its own, and ``fields`` besides or instead."""
    host = Host(f"h{number}", f"192.0.2.{number}:51820", public_key(number))
    return replace(host, **fields)


def build(id_: str, bits: int, *edits: Edit) -> Environment:
    """The environment ``id_`` with the network of ``bits``, after ``edits``."""
    environment = Environment(id=EnvironmentId(id_), network=PLATFORM.environment_network(bits), revision=1)
    return apply(environment, edits, NOW)


def build_on(id_: str, bits: int, *hosts: str) -> Environment:
    """The environment ``id_`` with one service, ``api``, and an instance of it, ``on-<host>``, on each of ``hosts``."""
    placed = (PutInstance("api", f"on-{host}", host=host, attached=True) for host in hosts)
    return build(id_, bits, PutService("api"), *placed)


def toggled(environment: Environment) -> Environment:
    """The next revision of ``environment``, in which nothing but ``enabled`` has changed."""
    return apply(environment, [SetEnabled(not environment.enabled)], NOW)


def compiled(environment: Environment, now: int = NOW, down: Collection[str] = ()) -> Zone:
    """The zone of ``environment``, while the hosts in ``down`` are."""
    return compile_zone(PLATFORM, environment, now, HostsAway(frozenset(down)))


def production() -> Environment:
    """Services in all states, a record of each type, wildcards, chains, and sets too large for one datagram."""
    return build(
        PRODUCTION,
        0x5B1E90C4,
        PutService("api", ports=(Port("http", 8080), Port("metrics", 9090))),
        PutInstance("api", "a1", region="eu", host="h1", attached=True),
        PutInstance("api", "a2", region="us", host="h2", attached=True),
        PutInstance("api", "a3", region="eu", state=State.STARTING),
        PutInstance("api", "a4", region="ap", state=State.DRAINING),
        PutService("single"),
        PutInstance("single", "only"),
        PutService("empty", ports=(Port("dns", 53, "udp"),)),
        PutService("crowd", ports=(Port("http", 80),)),
        *(PutInstance("crowd", f"c{number:03d}") for number in range(60)),
        PutService("secret"),
        PutInstance("secret", "s1"),
        PutRecord("db", "CNAME", RecordSet(60, ("single.railway.internal.",))),
        PutRecord("db2", "CNAME", RecordSet(30, ("db.railway.internal.",))),
        PutRecord("outside", "CNAME", RecordSet(60, ("www.example.com.",))),
        PutRecord("dangling", "CNAME", RecordSet(60, ("nowhere.railway.internal.",))),
        PutRecord("loop", "CNAME", RecordSet(60, ("pool.railway.internal.",))),
        PutRecord("pool", "CNAME", RecordSet(60, ("loop.railway.internal.",))),
        PutRecord("legacy", "A", RecordSet(60, ("192.0.2.1", "192.0.2.2"))),
        PutRecord("legacy", "AAAA", RecordSet(60, ("2001:db8::1",))),
        PutRecord("note", "TXT", RecordSet(60, ("hello", "x" * 300))),
        PutRecord("long", "TXT", RecordSet(60, tuple(f"{number:03d}" + "y" * 180 for number in range(12)))),
        PutRecord("_sip._udp", "SRV", RecordSet(60, ("10 5 5060 api.railway.internal.",))),
        PutRecord("*.apps", "AAAA", RecordSet(60, ("2001:db8::a",))),
        PutRecord("*.apps", "TXT", RecordSet(60, ("wild",))),
        PutRecord("fixed.apps", "TXT", RecordSet(60, ("fixed",))),
        PutRecord("deep.under.apps", "TXT", RecordSet(60, ("deep",))),
        PutRecord("*.alias", "CNAME", RecordSet(60, ("single.railway.internal.",))),
    )


def staging() -> Environment:
    """Some of production's names, none of its addresses, and a name of its own."""
    return build(
        STAGING,
        0x00AB00CD,
        PutService("api", ports=(Port("http", 8080),)),
        PutInstance("api", "a1"),
        PutService("only-here"),
        PutInstance("only-here", "i1"),
    )
