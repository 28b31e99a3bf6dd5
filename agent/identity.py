"""Which host this is: its key, and what the other hosts know about it."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

from agent.errors import CannotStart
from agent.keys import Keyring, PrivateKey
from store.errors import Unavailable
from store.store import Store
from support.endpoints import Endpoint
from zones.hosts import Host

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Identity:
    """The host that this agent runs on. Draining replaces the host document, a rotation both fields."""

    host: Host
    """The host's document, as it is registered or is to be registered."""
    key: PrivateKey
    """The host's private key, which the device uses."""

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


async def load_identity(store: Store, keyring: Keyring, host: str, endpoint: str, region: str | None) -> Identity:
    """The identity of the host ``host``, from its keys and from what the store has of it. Raises `CannotStart`.

    A rotation that the last agent did not finish is finished where the store has the new key, and undone where it does
    not. With the store away the keys are enough: the host starts, and registers later.
    """
    key = await asyncio.to_thread(keyring.load)
    next_key = await asyncio.to_thread(keyring.next)
    known: Host | None = None
    try:
        known = (await store.hosts.read()).hosts.get(host)
        own_keys = (key.public, next_key and next_key.public)
        if known and known.public_key not in own_keys and await store.hosts.live([host]):
            raise CannotStart(f"host {host!r} lives already, at {known.endpoint}: give this one another --host")
    except Unavailable as error:
        log.warning("store_unavailable", extra={"reason": str(error)})
    if next_key and known and known.public_key == next_key.public:
        await asyncio.to_thread(keyring.switch)
        key = next_key
    elif next_key:
        await asyncio.to_thread(keyring.discard_next)
    is_draining = known.draining if known else False
    return Identity(Host(host, endpoint, key.public, region=region, draining=is_draining), key)
