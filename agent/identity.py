"""Which host this is: its key, and what the other hosts know about it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import platform
from collections.abc import Mapping
from dataclasses import dataclass

from msgspec.structs import replace

from agent.endpoint import find_endpoint
from agent.errors import CannotStart
from agent.incarnation import load_incarnation
from agent.keys import Keyring, PrivateKey
from store.errors import EndpointTaken, KeyTaken, LeaseNotHeld, Unavailable
from store.leases import Lease
from store.store import Store
from support.endpoints import AutoEndpoint, Endpoint
from zones.hosts import Host

LEASE = 5.0  # seconds that other hosts wait for a host that has died
RENEW_EVERY = 1.5  # seconds; two renewals may be lost
CLAIM_DEADLINE = LEASE + RENEW_EVERY  # seconds; who still holds the lease then has renewed it, and lives
CLAIM_EVERY = 0.2  # seconds between two attempts to take the lease of an agent that has just ended

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Identity:
    """The host that this agent runs on. Draining replaces the host document, a rotation both fields."""

    host: Host
    """The host's document, as it is registered or is to be registered."""
    key: PrivateKey
    """The host's private key, which the device uses."""
    incarnation: str
    """What tells this agent from one with a copy of its state directory."""
    is_admitted: bool
    """Whether this agent may act as the host: it has held the lease, or its predecessor in this place has."""
    follows_address: bool = False
    """Whether the endpoint is the address by which this host reaches the others, and changes with it."""

    @property
    def lease(self) -> Lease:
        """The claim of this agent to be the host."""
        return Lease(self.host.id, self.incarnation)

    @property
    def where(self) -> str:
        """Where this agent runs, for whoever reads that it claims to be the host."""
        return f"{self.host.endpoint}, on the machine {platform.node()!r}"

    @property
    def id(self) -> str:
        """The id that instances name this host by."""
        return self.host.id

    @property
    def port(self) -> int:
        """The UDP port that the WireGuard device listens on."""
        return Endpoint.parse(self.host.endpoint).port

    @property
    def underlay(self) -> str:
        """The host's address on the underlay."""
        return Endpoint.parse(self.host.endpoint).host


async def load_identity(
    store: Store,
    keyring: Keyring,
    host: str,
    endpoint: str | AutoEndpoint,
    region: str | None,
    *,
    behind_nat: bool = False,
) -> Identity:
    """The identity of the host ``host``, from its keys and from what the store has of it. Raises `CannotStart`.

    Another agent that is this host and lives, as on a machine that was cloned, is waited for until its lease ends. A
    rotation that the last agent did not finish is finished where the store has the new key, and undone where it does
    not. With the store away the keys are enough: the host starts, and registers later.
    """
    incarnation, is_admitted = await load_incarnation(keyring.directory)
    key = await asyncio.to_thread(keyring.load)
    next_key = await asyncio.to_thread(keyring.next)
    hosts: Mapping[str, Host] = {}
    try:
        hosts = (await store.hosts.read()).hosts
    except Unavailable as error:
        log.warning("store_unavailable", extra={"reason": str(error)})
    known = hosts.get(host)
    if next_key and known and known.public_key == next_key.public:
        await asyncio.to_thread(keyring.switch)
        key = next_key
    elif next_key:
        await asyncio.to_thread(keyring.discard_next)
    is_draining = known.draining if known else False
    follows_address = isinstance(endpoint, AutoEndpoint)
    if isinstance(endpoint, AutoEndpoint):
        others = (other for other in hosts.values() if other.id != host)
        endpoint = find_endpoint(endpoint.port, others, known.endpoint if known else "")
    if not endpoint:
        raise CannotStart("this host has no route to other hosts, so none can reach it: give --endpoint ADDRESS:PORT")
    document = Host(host, endpoint, key.public, region=region, draining=is_draining, behind_nat=behind_nat)
    identity = Identity(document, key, incarnation, is_admitted, follows_address)
    if await _take_lease(store, identity, known.endpoint if known else ""):
        # Before anything is made on this host: what another host has already keeps the agent from starting.
        with contextlib.suppress(Unavailable, LeaseNotHeld):  # the registrar tries again
            await register(store, identity)
    return identity


async def _take_lease(store: Store, identity: Identity, endpoint: str) -> bool:
    """Takes the lease of the host; False where the store is away.

    Raises `CannotStart` where another agent renews it, which is at ``endpoint``.
    """
    clock = asyncio.get_running_loop().time
    deadline = clock() + CLAIM_DEADLINE
    while True:
        try:
            # Not able yet: nobody is to wait for this host before it can do what it is told.
            await store.leases.renew(identity.lease, int(LEASE * 1000), is_able=False, where=identity.where)
            identity.is_admitted = True
            return True
        except Unavailable as error:
            log.warning("store_unavailable", extra={"reason": str(error)})
            return False  # the registrar takes it once the store is back
        except LeaseNotHeld as error:
            if clock() >= deadline:
                raise CannotStart(refused(identity, error, endpoint)) from None
        await asyncio.sleep(CLAIM_EVERY)


async def register(store: Store, identity: Identity) -> None:
    """Writes the document of the host; whether it is draining is for the store to say.

    Raises `CannotStart` where another host has the key or the endpoint, and the errors of the store.
    """

    def change(known: Host) -> Host:
        return replace(identity.host, draining=known.draining)

    try:
        changed = await store.hosts.change(identity.id, change, identity.lease)
        if changed is None:
            await store.hosts.register(identity.host, lease=identity.lease)
        else:
            identity.host = changed[1]
    except (KeyTaken, EndpointTaken) as error:
        raise CannotStart(str(error)) from None


def refused(identity: Identity, error: LeaseNotHeld, endpoint: str) -> str:
    """Why this agent is not the host, which is at ``endpoint``, and what to do."""
    return (
        f"{error}, at {endpoint}: was this machine cloned, or its state directory copied? If so, remove the state"
        f" directory here, and give this host another --host than {identity.id!r}"
    )
