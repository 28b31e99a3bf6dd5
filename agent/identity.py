"""Which host this is: its key, and what the other hosts know about it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import platform
from collections.abc import Iterable
from dataclasses import dataclass

from agent.control_plane.connection import ControlPlane
from agent.control_plane.errors import ControlPlaneError, LeaseLost, Taken, Unavailable
from agent.endpoint import find_endpoint
from agent.errors import CannotStart
from agent.keys import Keyring, PrivateKey
from support.endpoints import AutoEndpoint, Endpoint
from watcher.session.protocol import LEASE, Counted, Register, Renew, Renewed, Welcome
from zones.hosts import Host

RENEW_EVERY = 1.5  # seconds; two renewals may be lost
CLAIM_DEADLINE = LEASE + 2 * RENEW_EVERY  # seconds; who still holds the lease then has renewed it, and lives
CLAIM_EVERY = 0.2  # seconds between two attempts to take the lease of an agent that has just ended

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Identity:
    """The host that this agent runs on. Draining replaces the host document, a rotation both fields."""

    host: Host
    """The host's document, as it is registered or is to be registered."""
    key: PrivateKey
    """The host's private key, which the device uses."""
    is_admitted: bool
    """Whether this agent may act as the host: it has held the lease, or its predecessor in this place has."""
    follows_address: bool = False
    """Whether the endpoint is the address by which this host reaches the others, and changes with it."""
    next_key: PrivateKey | None = None
    """The private key that is about to replace ``key``; None: no rotation is going on."""

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
    control_plane: ControlPlane,
    keyring: Keyring,
    host: str,
    endpoint: str | AutoEndpoint,
    region: str | None,
    others: Iterable[Host] = (),
    *,
    is_admitted: bool,
    behind_nat: bool = False,
) -> Identity:
    """The identity of the host ``host``, from its keys and from what the control plane has of it.

    ``others`` are the hosts that are known by now. ``is_admitted`` says whether the incarnation of this agent is that
    of its predecessor. Raises `CannotStart`.

    Another agent that is this host and lives, as on a machine that was cloned, is waited for until its lease ends. A
    rotation that the last agent did not finish is finished where the control plane has the new key, and undone where
    it does not. With the control plane away the keys are enough: the host starts, and registers later.
    """
    key = await asyncio.to_thread(keyring.load)
    next_key = await asyncio.to_thread(keyring.next)
    known = control_plane.welcome.host if control_plane.welcome else None
    if next_key and known and known.public_key == next_key.public:
        await asyncio.to_thread(keyring.switch)
        key = next_key
    elif next_key and control_plane.welcome:
        await asyncio.to_thread(keyring.discard_next)
    is_draining = known.draining if known else False
    follows_address = isinstance(endpoint, AutoEndpoint)
    if isinstance(endpoint, AutoEndpoint):
        endpoint = find_endpoint(endpoint.port, others, known.endpoint if known else "", control_plane.addresses)
    if not endpoint:
        raise CannotStart("this host has no route to other hosts, so none can reach it: give --endpoint ADDRESS:PORT")
    document = Host(host, endpoint, key.public, region=region, draining=is_draining, behind_nat=behind_nat)
    identity = Identity(document, key, is_admitted, follows_address)
    if await _take_lease(control_plane, identity, known.endpoint if known else ""):
        # Before anything is made on this host: what another host has already keeps the agent from starting.
        with contextlib.suppress(Unavailable, LeaseLost):  # the registrar tries again
            await register(control_plane, identity)
    return identity


async def _take_lease(control_plane: ControlPlane, identity: Identity, endpoint: str) -> bool:
    """Takes the lease of the host; False where the control plane is away.

    Raises `CannotStart` where another agent renews it, which is at ``endpoint``.
    """
    clock = asyncio.get_running_loop().time
    deadline = clock() + CLAIM_DEADLINE
    while True:
        try:
            # Not able yet: nobody is to wait for this host before it can do what it is told.
            await control_plane.ask(Renew(0, is_able=False), Renewed)
            identity.is_admitted = True
            return True
        except LeaseLost as error:
            if clock() >= deadline:
                raise CannotStart(refused(identity, error, endpoint)) from None
        except ControlPlaneError as error:
            log.warning("control_plane_unavailable", extra={"reason": str(error)})
            return False  # the registrar takes it once a control plane is back
        await asyncio.sleep(CLAIM_EVERY)


async def register(control_plane: ControlPlane, identity: Identity, host: Host | None = None) -> int:
    """Writes the document of the host, or ``host`` in its place; whether it is draining is not for it to say.

    Gives the revision of all hosts. Raises `CannotStart` where another host has the key or the endpoint, and the other
    errors of the control plane.
    """
    registered = host or identity.host

    def request(welcome: Welcome) -> Register:
        keys = (identity.key, identity.next_key)
        return Register(
            0, registered, {key.public: key.prove(identity.id, welcome.challenge) for key in keys if key is not None}
        )

    try:
        return (await control_plane.ask(request, Counted)).revision
    except Taken as error:
        raise CannotStart(str(error)) from None


def place(endpoint: str) -> str:
    """Where this agent runs, for whoever reads that it claims to be a host."""
    return f"{endpoint}, on the machine {platform.node()!r}"


def refused(identity: Identity, error: LeaseLost, endpoint: str) -> str:
    """Why this agent is not the host, which is at ``endpoint``, and what to do."""
    return (
        f"{error}, at {endpoint}: was this machine cloned, or its state directory copied? If so, remove the state"
        f" directory here, and give this host another --host than {identity.id!r}"
    )
