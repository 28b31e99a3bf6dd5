"""Keeping this host in the platform: it registers, renews its lease, and may rotate its key or leave.

A rotation interrupts no connection, because the other hosts know the new key before it is used:

    announce   the host's document names the next key beside the one in use; the other hosts add it as a second peer
    wait       until every live host has done so
    switch     the device takes the new key, and the document says so; the other hosts move this host's addresses from
               the one peer to the other
    credential the same for what the host shows to the control plane: a new one is certified, and its first use ends the
               one before it
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from msgspec.structs import replace

from agent.announce.acknowledger import Acknowledger
from agent.announce.barrier import Barrier
from agent.control_plane.connection import ControlPlane
from agent.control_plane.credential import HostKey
from agent.control_plane.errors import ControlPlaneError, LeaseLost, Taken
from agent.endpoint import find_endpoint, has_address
from agent.errors import Failed, NotNow, Refused
from agent.identity import RENEW_EVERY, Identity, refused, register
from agent.incarnation import remove_incarnation
from agent.keys import Keyring
from agent.mesh.mesh import Mesh
from support.endpoints import Endpoint
from watcher.session.protocol import ALL_HOSTS, Certified, Certify, Done, Leave, Renew, Renewed
from zones.hosts import Host, Hosts

ACKNOWLEDGE_EVERY = 30.0  # seconds; acknowledgements that the store has lost are sent again

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Registrar:
    """Keeps this host registered, and its lease alive for as long as ``mesh`` can apply what is published to it."""

    identity: Identity
    """This host; its key and draining state change here."""
    control_plane: ControlPlane
    """Where the host is registered."""
    keyring: Keyring
    """The host's keys on its disk."""
    mesh: Mesh
    """Applies a new key to the device; while it fails the lease is not renewed."""
    barrier: Barrier
    """Waits until the other hosts have a change of this one."""
    acknowledger: Acknowledger
    """Sends all acknowledgements again from time to time."""
    problem: str = ""
    """Why the lease is not being renewed; empty if it is."""
    is_registered: bool = False
    """Whether the control plane has this host as ``identity`` describes it."""
    is_rotating: bool = False
    """Whether a rotation is under way."""
    has_left: bool = False
    """Whether this host has left the mesh, and must not register again."""
    rival: str = ""
    """Where another agent runs that has claimed to be this host lately, and was refused; empty if there is none."""
    name_conflict: str = ""
    """That another host has registered under this host's id, and what to do; empty if none has."""
    _is_claimed: bool = False
    """Whether ``problem`` says that somebody else is this host, or has its name, its key or its endpoint."""
    _registered_endpoint: str = ""
    """The endpoint at which this host is registered; empty where it is not registered."""
    _others: list[Host] = field(default_factory=list)
    """The other hosts that are known: those that share an environment with this one."""
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while the host registers or leaves."""

    async def run(self, ready: Callable[[], None]) -> None:
        """Works until cancelled. Raises `CannotStart` where another host has the key, the endpoint or the name."""
        clock = asyncio.get_running_loop().time
        acknowledge_at = clock() + ACKNOWLEDGE_EVERY
        while True:
            try:
                async with self._lock:
                    await self._renew()
                self._set_problem(self.name_conflict, is_claim=bool(self.name_conflict))
            except LeaseLost as error:
                self._lose_lease(error)
            except Taken as error:
                self._set_problem(str(error), is_claim=True)
            except ControlPlaneError as error:
                self._set_problem(str(error))
            ready()
            if clock() >= acknowledge_at:
                self.acknowledger.send_all_again()
                acknowledge_at = clock() + ACKNOWLEDGE_EVERY
            await self.control_plane.until_begun(RENEW_EVERY)  # a host that was cut off is back with its first renewal

    def take_hosts(self, hosts: Hosts) -> None:
        """Takes over what others have changed of this host: that it is drained, was removed, or lost its name."""
        known, identity = hosts.hosts.get(self.identity.id), self.identity
        self._registered_endpoint = known.endpoint if known else ""
        self._others = [host for host in hosts.hosts.values() if host.id != identity.id]
        self.name_conflict = ""
        if known is None:
            self.is_registered = False
        elif known.public_key == identity.key.public:
            identity.host = replace(identity.host, draining=known.draining)
        elif self.is_registered and not self.is_rotating:
            # Our lease had ended, and the other host took the name. If each took it back, that would never end.
            self.name_conflict = (
                f"another host took the name {identity.id!r}, at {known.endpoint}: give one another --host"
            )

    async def rotate(self) -> str:
        """Gives this host a new key, and returns its public key. Raises `AgentError`."""
        if self.is_rotating:
            raise Refused("a rotation is under way already: wait for its end")
        if not self.is_registered:
            raise NotNow("this host is not registered yet: is the control plane reachable? try again")
        self.is_rotating = True
        try:
            return await self._rotate()
        except ControlPlaneError as error:
            raise NotNow(f"{error}: the key in use stays; try again, and see 'interlock mesh'") from error
        finally:
            self.is_rotating = False

    async def check_reachable(self) -> None:
        """Returns if a control plane answers this host, and takes it for the one that it is. Raises `NotNow`."""
        try:
            async with self._lock:
                await self._renew_lease()
        except ControlPlaneError as error:
            raise NotNow(f"{error}: nothing was changed; try again") from error

    async def leave(self) -> None:
        """Removes this host from the platform, and its keys from the disk. Raises `NotNow`."""
        try:
            async with self._lock:
                await self.control_plane.ask(Leave(0), Done)
                self.has_left = True
        except ControlPlaneError as error:
            raise NotNow(f"{error}: the host is still registered; try again") from error
        await asyncio.to_thread(self.keyring.remove)
        await asyncio.to_thread(self.control_plane.files.remove)
        await asyncio.to_thread(remove_incarnation, self.keyring.directory)

    async def _renew(self) -> None:
        if self.has_left:
            return  # else the host would register again at once
        if self.name_conflict:
            return  # the lease is for the host that took the name
        if self.identity.follows_address:
            await self._follow_address()
        await self._renew_lease()
        if not self.is_registered:
            await self._register()
            await self._renew_lease()

    async def _follow_address(self) -> None:
        identity = self.identity
        before = identity.host.endpoint
        found = find_endpoint(identity.port, self._others, before, self.control_plane.addresses)
        if found and found != before:
            identity.host, self.is_registered = replace(identity.host, endpoint=found), False
            log.warning("endpoint_changed", extra={"host": identity.id, "endpoint": found, "before": before})
            if not has_address(Endpoint.parse(before).host):
                self.mesh.address_changed()
                # Its replies go to the address that this host had: for 15 s nobody would notice that none come.
                await self.control_plane.reconnect("this host has another address")

    async def _renew_lease(self) -> None:
        identity = self.identity
        # The other hosts do not wait for one that cannot apply what is published to it. It keeps its lease even so.
        is_able = self.is_registered and not self.mesh.status.problem
        rival = (await self.control_plane.ask(Renew(0, is_able), Renewed)).rival
        if rival and rival != self.rival:
            log.error("host_claimed_twice", extra={"host": identity.id, "where": rival})
        self.rival = rival
        if not identity.is_admitted:
            identity.is_admitted = True
            self.mesh.read_back_soon()

    def _lose_lease(self, error: LeaseLost) -> None:
        """Another agent is this host."""
        self.is_registered = False  # what the other has registered is corrected when this agent has the lease again
        self._set_problem(refused(self.identity, error, self._registered_endpoint), is_claim=True)

    async def _register(self) -> None:
        await register(self.control_plane, self.identity)
        self.is_registered = True
        log.info("registered", extra={"host": self.identity.id, "endpoint": self.identity.host.endpoint})

    async def _rotate(self) -> str:
        identity, mesh = self.identity, self.mesh
        try:
            next_key = await asyncio.to_thread(self.keyring.prepare)
        except OSError as error:
            raise Failed(f"the next key cannot be kept in {self.keyring.directory}: {error.strerror}") from None
        identity.next_key = next_key
        try:
            await self._wait(await self._change(next_public_key=next_key.public))
            # From here to the other hosts' next pass no packet gets through: some milliseconds; TCP sends again.
            await mesh.system.device.set_key(next_key)
            if identity.host.behind_nat:
                mesh.begin_handshakes()  # the others know the new key by now, but not where this host is with it
            revision = await self._change(public_key=next_key.public, next_public_key=None)
        except BaseException:
            # Registered may be the old key, both, or the new one: the host registers with the old one again.
            identity.host = replace(identity.host, public_key=identity.key.public, next_public_key=None)
            identity.next_key, self.is_registered = None, False
            await mesh.system.device.set_key(identity.key)
            await asyncio.to_thread(self.keyring.discard_next)
            raise
        identity.key, identity.next_key = next_key, None
        await asyncio.to_thread(self.keyring.switch)
        if lagging := await self._wait(revision):
            hosts = ", ".join(sorted(lagging))
            raise Failed(f"the key is changed, but hosts {hosts} have not taken it: see 'interlock mesh'")
        await self._rotate_credential()
        log.info("key_rotated", extra={"host": identity.id})
        return next_key.public

    async def _rotate_credential(self) -> None:
        """Gives this host a new credential. The one before it is good until a session begins with the new one."""
        control_plane = self.control_plane
        try:
            key = await asyncio.to_thread(HostKey.make, self.identity.id)
            await asyncio.to_thread(control_plane.files.make_room)
            certified = await control_plane.ask(Certify(0, key.request), Certified)
            await asyncio.to_thread(control_plane.files.keep, key, certified.certificate)
            await control_plane.begin_anew()
        except (ControlPlaneError, OSError) as error:
            reason = (error.strerror if isinstance(error, OSError) else "") or str(error)
            raise Failed(f"the key is changed, but the credential is not: {reason}: rotate again") from None

    async def _change(self, **fields: Any) -> int:
        """Changes ``fields`` of this host's document, and returns the new revision of all hosts."""
        host = replace(self.identity.host, **fields)
        revision = await register(self.control_plane, self.identity, host)
        self.identity.host = replace(host, draining=self.identity.host.draining)
        return revision

    async def _wait(self, revision: int) -> frozenset[str]:
        """Waits until all other live hosts have ``revision`` of the hosts; returns those that have not in time."""
        return await self.barrier.wait(ALL_HOSTS, revision)

    @property
    def problems(self) -> list[str]:
        """What is wrong with the registration of this host, and what to do; one text for each."""
        rival = self.rival and (
            f"another agent claims to be host {self.identity.id}, at {self.rival}, and is refused: was the machine"
            " cloned, or the state directory copied? remove the state directory there, and give it another --host"
        )
        return [text for text in (self.problem, rival) if text]

    @property
    def claims(self) -> list[str]:
        """Those of `problems` that say that somebody else is this host, or has its name, its key or its endpoint."""
        return self.problems if self._is_claimed else self.problems[1 if self.problem else 0 :]

    def _set_problem(self, problem: str, *, is_claim: bool = False) -> None:
        self._is_claimed = is_claim
        if problem and problem != self.problem:
            log.warning("not_renewed", extra={"reason": problem})
        self.problem = problem
