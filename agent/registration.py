"""Telling the others that this host is here, that it lives, and by which key: register, renew, rotate, leave.

A rotation loses no connection, for the others know the new key before it is used:

    announce   the host's document names the next key beside the one in use; the others take it as a second peer
    wait       until every live host has it
    switch     the device takes the new key, and the document says so; the others move our addresses from peer to peer
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from agent import keys
from agent.announce.acknowledger import Acknowledger
from agent.announce.barrier import Barrier
from agent.errors import CannotStart, Failed, NotNow, Refused
from agent.identity import Identity
from agent.keys import PrivateKey
from agent.mesh.mesh import Mesh
from store.errors import EndpointTaken, KeyTaken, Unavailable
from store.hosts import Hosts
from store.keys import ALL_HOSTS
from store.store import Store
from zones.hosts import Host

LEASE = 5.0  # seconds that others wait for a host that has died
RENEW_EVERY = 1.5  # seconds; two renewals may be lost
REMIND_EVERY = 30.0  # seconds; an acknowledgement that the store has lost is given again, like its index is compared
KEY, NEXT_KEY = "wireguard.key", "wireguard.next.key"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Keyring:
    """The host's key in ``directory``, and during a rotation the one that will take its place. All mode 0600."""

    directory: Path

    def load(self) -> PrivateKey:
        """The key in use, made if there is none. Raises `CannotStart`."""
        return keys.load_or_make(self.directory / KEY)

    def next(self) -> PrivateKey | None:
        """The key that a rotation was to go to when the agent ended."""
        try:
            return keys.load(self.directory / NEXT_KEY)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise CannotStart(f"{self.directory / NEXT_KEY}: {error.strerror}") from None

    def prepare(self) -> PrivateKey:
        """Makes the next key."""
        key = PrivateKey.generate()
        keys.store(key, self.directory / NEXT_KEY)
        return key

    def switch(self) -> None:
        """Makes the next key the one in use."""
        (self.directory / NEXT_KEY).replace(self.directory / KEY)

    def discard_next(self) -> None:
        """Forgets the next key."""
        (self.directory / NEXT_KEY).unlink(missing_ok=True)

    def remove(self) -> None:
        """Forgets both."""
        self.discard_next()
        (self.directory / KEY).unlink(missing_ok=True)


async def load_identity(store: Store, keyring: Keyring, host: str, endpoint: str, region: str | None) -> Identity:
    """Who this host is, by its key and by what the store has of it. Raises `CannotStart`.

    With the store away, what the key says is enough: the host goes on and registers later.
    """
    key = await asyncio.to_thread(keyring.load)
    upcoming = await asyncio.to_thread(keyring.next)
    known: Host | None = None
    try:
        known = (await store.hosts.read()).hosts.get(host)
        if (
            known
            and known.public_key not in (key.public, upcoming and upcoming.public)
            and await store.hosts.live([host])
        ):
            raise CannotStart(f"host {host!r} lives already, at {known.endpoint}: give this one another --host")
    except Unavailable as error:
        log.warning("store_unavailable", extra={"reason": str(error)})
    if upcoming and known and known.public_key == upcoming.public:
        # The rotation had come as far as the store.
        await asyncio.to_thread(keyring.switch)
        key = upcoming
    elif upcoming:
        await asyncio.to_thread(keyring.discard_next)
    is_draining = known.draining if known else False
    return Identity(Host(host, endpoint, key.public, region=region, draining=is_draining), key)


@dataclass(slots=True)
class Registrar:
    """Keeps this host registered and its lease alive, for as long as ``mesh`` does what it is told."""

    identity: Identity
    store: Store
    keyring: Keyring
    mesh: Mesh
    barrier: Barrier
    acknowledger: Acknowledger
    problem: str = ""
    is_registered: bool = False
    is_rotating: bool = False
    has_left: bool = False
    name_conflict: str = ""
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def run(self, ready: Callable[[], None]) -> None:
        """Works until cancelled. Raises `CannotStart` where another host has the key, the endpoint or the name."""
        clock = asyncio.get_running_loop().time
        remind_at = clock() + REMIND_EVERY
        while True:
            try:
                async with self._turn:
                    await self._keep()
                self._note(self.name_conflict)
            except Unavailable as error:
                self._note(str(error))
            ready()
            if clock() >= remind_at:
                self.acknowledger.send_all_again()
                remind_at = clock() + REMIND_EVERY
            await asyncio.sleep(RENEW_EVERY)

    async def _keep(self) -> None:
        if self.has_left:
            return  # or it would be back at once
        if not self.is_registered:
            await self._register()
        if not (self.mesh.status.problem or self.name_conflict):
            # A host that cannot program what it is told is not waited for by others.
            await self.store.hosts.renew_lease(self.identity.id, int(LEASE * 1000))

    def take_hosts(self, hosts: Hosts) -> None:
        """Notices what others have changed of this host: that it is to be drained, or that it was forgotten."""
        known, identity = hosts.hosts.get(self.identity.id), self.identity
        self.name_conflict = ""
        if known is None:
            self.is_registered = False
        elif known.public_key == identity.key.public:
            identity.host = replace(identity.host, draining=known.draining)
        elif self.is_registered and not self.is_rotating:
            # Our lease had ended, and the name was taken. To take it back would go on for ever.
            self.name_conflict = (
                f"another host took the name {identity.id!r}, at {known.endpoint}: give one another --host"
            )

    async def rotate(self) -> str:
        """Gives this host a new key and returns its public part. Raises `AgentError`."""
        if self.is_rotating:
            raise Refused("a rotation is under way already: wait for its end")
        if not self.is_registered:
            raise NotNow("this host is not registered yet: is the store reachable? try again")
        self.is_rotating = True
        try:
            return await self._rotate()
        except Unavailable as error:
            raise NotNow(f"{error}: the key in use stays; try again") from error
        finally:
            self.is_rotating = False

    async def leave(self) -> None:
        """Forgets this host in the store, and its keys. Raises `NotNow`."""
        try:
            async with self._turn:
                await self.store.hosts.forget(self.identity.id)
                self.has_left = True
        except Unavailable as error:
            raise NotNow(f"{error}: the host is still registered; try again") from error
        await asyncio.to_thread(self.keyring.remove)

    async def _register(self) -> None:
        identity = self.identity

        def change(known: Host) -> Host:
            return replace(identity.host, draining=known.draining)

        try:
            changed = await self.store.hosts.change(identity.id, change)
            if changed is None:
                await self.store.hosts.register(identity.host)
            else:
                identity.host = changed[1]
        except (KeyTaken, EndpointTaken) as error:
            raise CannotStart(str(error)) from None
        self.is_registered = True
        log.info("registered", extra={"host": self.identity.id, "endpoint": self.identity.host.endpoint})

    async def _rotate(self) -> str:
        identity, mesh = self.identity, self.mesh
        upcoming = await asyncio.to_thread(self.keyring.prepare)
        try:
            await self._wait(await self._change(next_public_key=upcoming.public))
            # From here to the others' next pass nothing goes through: a few milliseconds, which TCP makes up for.
            await mesh.system.device.set_key(upcoming)
            revision = await self._change(public_key=upcoming.public, next_public_key=None)
        except BaseException:
            # What the store holds may be any of the three: it is told anew.
            identity.host, self.is_registered = replace(identity.host, next_public_key=None), False
            await mesh.system.device.set_key(identity.key)
            await asyncio.to_thread(self.keyring.discard_next)
            raise
        identity.key = upcoming
        await asyncio.to_thread(self.keyring.switch)
        if lagging := await self._wait(revision):
            hosts = ", ".join(sorted(lagging))
            raise Failed(f"the key is changed, but hosts {hosts} have not taken it: see 'interlock mesh'")
        log.info("key_rotated", extra={"host": identity.id})
        return upcoming.public

    async def _change(self, **fields: Any) -> int:
        """Changes ``fields`` of what all know of this host; gives the revision of all hosts."""
        changed = await self.store.hosts.change(self.identity.id, lambda known: replace(known, **fields))
        if changed is None:
            raise NotNow("this host was forgotten just now, and registers again: try again")
        revision, self.identity.host = changed
        return revision

    async def _wait(self, revision: int) -> frozenset[str]:
        others = (await self.store.hosts.read()).hosts.keys() - {self.identity.id}
        return await self.barrier.wait(ALL_HOSTS, revision, others)

    def _note(self, problem: str) -> None:
        if problem and problem != self.problem:
            log.warning("not_renewed", extra={"reason": problem})
        self.problem = problem
