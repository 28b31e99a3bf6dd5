"""The facts: values only, as they go over the control socket and over a host's session, in JSON."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from msgspec import Struct

from agent.attach.ended import AttachFacts
from agent.examine.links import LinkFacts


class Listener(Struct, frozen=True, omit_defaults=True):
    """A socket that accepts connections, or takes datagrams."""

    protocol: str
    """``tcp`` or ``udp``."""
    address: str
    """The address that it is bound to: ``0.0.0.0``, ``::``, ``127.0.0.1``, …"""
    port: int
    """The port that it is bound to."""
    process: str = ""
    """The program that has it, as ``python3 (process 4711)``; empty where no process that can be seen has it."""


class Echo(Struct, frozen=True, omit_defaults=True):
    """What came of ICMPv6 echo requests from a workload of this host to one address."""

    address: str
    """The address that was asked."""
    instance: str
    """The instance that has the address, as ``a1.api``."""
    environment: str
    """The environment of both."""
    milliseconds: float | None = None
    """How long the answer took; None if none came."""
    full_size: bool | None = None
    """Whether one as large as the MTU was answered; None where that was not tried, or none was answered at all."""


class Connect(Struct, frozen=True, omit_defaults=True):
    """What came of one connection over TCP, from a workload of this host."""

    source: str
    """The workload that it was made from, as ``a1.api``."""
    target: str
    """The instance that it went to, as ``a1.api``; or its address, where that is none of an instance."""
    host: str | None
    """The host of that instance; None if that is not known."""
    address: str
    """The address that was connected to."""
    port: int
    """The port that was connected to."""
    outcome: str
    """``open``, ``refused``, ``silent``, or another error in words."""


class PeerFacts(Struct, frozen=True, omit_defaults=True):
    """Another host that this one sends to, and how WireGuard sees it."""

    host: str
    """The id of the host."""
    endpoint: str
    """Where it is registered, as ADDRESS:PORT."""
    has_peer: bool
    """Whether the WireGuard device has it as a peer."""
    handshake_age: float | None = None
    """Seconds since the newest handshake; None if there was none."""
    silent: float | None = None
    """For how many seconds it has owed a packet; None if it owes none."""
    behind_nat: bool = False
    """Whether only it can begin a handshake."""
    received: bool = False
    """Whether a packet came from it by the tunnel during the probe."""
    refused: bool = False
    """Whether its machine said, during the probe, that nothing has its WireGuard's UDP port."""
    pinged: bool | None = None
    """Whether its machine answered an ICMP echo outside the tunnel; None where it was not asked."""
    echoes: tuple[Echo, ...] = ()
    """The probes through the tunnel, one for each address that was asked."""


class WorkloadFacts(Struct, frozen=True, omit_defaults=True):
    """A workload of this host, seen from inside its network namespace."""

    instance: str
    """The id of the instance."""
    service: str
    """The name of its service."""
    environment: str
    """Its environment."""
    address: str | None
    """Its address; None while it has none."""
    phase: str
    """``attaching``, ``attached`` or ``detaching``."""
    netns: str
    """The path of its network namespace."""
    gone: str = ""
    """Why there is nothing to look at: its network namespace is not there any more. Else empty."""
    faults: tuple[str, ...] = ()
    """What is not as it was made: the link, the address, the route, the resolv.conf; one text for each."""
    resolv_conf: str | None = None
    """The path of the ``resolv.conf`` that counts for it; None where none was found."""
    nameservers: tuple[str, ...] | None = None
    """The nameservers in it, in order; None where none was found or it cannot be read."""
    lookup: str = ""
    """Why a look-up of its own name from inside was not answered as it should be; empty if it was."""
    listeners: tuple[Listener, ...] | None = None
    """The sockets that take connections or datagrams inside; None where they cannot be read."""


class HostFacts(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What the agent of a host knows, in the order in which one thing depends on the other."""

    host: str
    """The id of the host."""
    endpoint: str
    """Where it is registered, as ADDRESS:PORT."""
    device: str
    """The name of its WireGuard device."""
    mtu: int
    """The MTU of that device, in octets."""
    claims: tuple[str, ...] = ()
    """That another agent claims to be this host, or has its name or key; one text for each."""
    control_plane: str = ""
    """Why the control plane cannot be reached; empty if it can."""
    store: str = ""
    """Why the control plane, which can be reached, does not do what needs its store; empty if it does."""
    stale: float | None = None
    """How old the snapshot is that everything is from, in seconds; None where the control plane is followed."""
    is_loaded: bool = True
    """Whether the environments are known."""
    clock: str = ""
    """What is wrong with the clock of this host; empty if nothing is."""
    problem: str = ""
    """Why the last changes could not be applied to this host; empty if they were."""
    firewalls: tuple[str, ...] = ()
    """The chains of other firewalls that drop what workloads send or are sent."""
    unfiltered: str = ""
    """Why the links have no filters; empty if they have."""
    has_resolver: bool = True
    """Whether a resolver is connected to the agent."""
    draining: bool = False
    """Whether the host takes nothing new."""
    rejected: tuple[str, ...] = ()
    """What the control plane holds and this host leaves out, because it could mix up two owners' traffic."""
    quarantined: Mapping[str, str] = {}
    """The environments whose newest document cannot be used, and why."""
    held: tuple[str, ...] = ()
    """What has vanished and stays here until it is confirmed."""
    differences: tuple[str, ...] = ()
    """What the documents and this host say differently of workloads, or was changed inside and is not put right."""
    live: tuple[str, ...] | None = None
    """The hosts that live, of those that share an environment with this one; None where no control plane says so."""
    lagging: Mapping[str, tuple[str, ...]] = {}
    """The live hosts that have not acknowledged the newest revision, by environment."""
    environments: Mapping[str, int] = {}
    """The revision of each environment that has a member here."""
    served: Mapping[str, int] = {}
    """The revision of each that the resolvers of this host answer from."""
    peers: tuple[PeerFacts, ...] = ()
    """The hosts that share an environment with this one."""
    workloads: tuple[WorkloadFacts, ...] = ()
    """The workloads of this host that were looked at."""
    connects: tuple[Connect, ...] = ()
    """The connections that were tried, to the name or for the pair that was asked about."""
    source_problem: str = ""
    """Why none could be tried: no workload of this host is the one that was named; else empty."""
    attached: int = 0
    """How many workloads are attached to this host."""
    attaches: tuple[AttachFacts, ...] | None = None
    """The last attaches, the newest first; None where they were not asked for, and from an agent that knows none."""
    links: tuple[LinkFacts, ...] | None = None
    """The links with other hosts; None where they were not asked for, and from an agent that does not show them."""
    document: str | None = None
    """The document, in JSON, of the environment that was asked about; None where none was, or it has no member here."""


def encode_facts(facts: HostFacts) -> bytes:
    """``facts`` as JSON."""
    return _encoder.encode(facts)


def decode_facts(text: bytes) -> HostFacts:
    """The facts in ``text``. Raises ``ValueError``."""
    return _decoder.decode(text)


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(HostFacts)
