"""WireGuard in the kernel, through generic netlink: the wall around pyroute2's part for it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from errno import ENODEV, ENOTSUP, EOPNOTSUPP
from itertools import islice
from typing import Any

from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.generic.wireguard import AsyncWireGuard

from agent.errors import Failed
from agent.keys import PrivateKey
from agent.plan.peers import (
    BLACKHOLE_PEER,
    ActualPeer,
    DropAddresses,
    DropPeer,
    PeerStep,
    SetPeer,
    StartHandshake,
    Tunnel,
)
from agent.system.deadline import answered_in_time
from agent.system.netlink import Links
from zones.addresses import Address
from zones.errors import Invalid
from zones.keys import PublicKey

ADDRESSES_AT_ONCE = 500  # each takes 36 octets of a netlink message, which holds 32,768 of them


class Kernel:
    """The device ``name``, whose link is looked after through ``links``."""

    kind = "kernel"

    def __init__(self, name: str, links: Links) -> None:
        self._name = name
        self._links = links

    async def ensure(self, key: PrivateKey, port: int, mtu: int) -> None:
        if not self._links.exists(self._name) and not await self._links.make_tunnel(self._name, mtu):
            raise Failed("the kernel has no WireGuard: load its module, or set --wireguard userspace")
        seen = await self.read()
        if seen is None or (seen.public_key, seen.port) != (key.public, port):
            await self._set(private_key=key.text, listen_port=port)
        await self._links.set_up(self._name, mtu)

    async def read(self) -> Tunnel | None:
        if not self._links.exists(self._name):
            return None
        async with self._told() as wireguard:
            messages = [message async for message in await wireguard.info(self._name)]
        return _read_tunnel(messages)

    async def apply(self, steps: Sequence[PeerStep]) -> None:
        for step in steps:
            for peer in _peers(step):
                await self._set(peer=peer)

    async def set_key(self, key: PrivateKey) -> None:
        await self._set(private_key=key.text)

    async def remove(self) -> None:
        await self._links.remove(self._name)

    async def _set(self, **values: Any) -> None:
        async with self._told() as wireguard:
            await wireguard.set(self._name, **values)

    @asynccontextmanager
    async def _told(self) -> AsyncIterator[Any]:
        try:
            async with answered_in_time("netlink (WireGuard)"):
                wireguard: Any = AsyncWireGuard()
                try:
                    await wireguard.setup_endpoint()
                    yield wireguard
                finally:
                    wireguard.close()
        except NetlinkError as error:
            if error.code in (ENOTSUP, EOPNOTSUPP, ENODEV):
                raise Failed(
                    f"{self._name} is not a WireGuard device of the kernel's: remove what has its name"
                ) from error
            raise Failed(f"WireGuard device {self._name}: the kernel says: {error}") from error


def _peers(step: PeerStep) -> Iterator[dict[str, Any]]:
    """What pyroute2 takes: one peer a message, and of its addresses not too many."""
    match step:
        case DropPeer(key):
            yield {"public_key": key, "remove": True}
        case DropAddresses(addresses):
            for some in _in_parts(addresses):
                yield {"public_key": BLACKHOLE_PEER, "allowed_ips": some}
            yield {"public_key": BLACKHOLE_PEER, "remove": True}
        case StartHandshake(key, keepalive):
            # To switch keepalives on sends one at once, and there is no other way to have a device send something.
            for seconds in (0, 1, keepalive):
                yield {"public_key": key, "persistent_keepalive": seconds}
        case SetPeer():
            yield from _put(step)


def _put(step: SetPeer) -> Iterator[dict[str, Any]]:
    first: dict[str, Any] = {"public_key": step.key}
    if step.endpoint is not None:
        host, _, port = step.endpoint.rpartition(":")
        first |= {"endpoint_addr": host.strip("[]"), "endpoint_port": int(port)}
    if step.keepalive is not None:
        first["persistent_keepalive"] = step.keepalive
    if step.replace:
        first["replace_allowed_ips"] = True
    parts = list(_in_parts(step.add))
    yield {**first, "allowed_ips": parts[0]} if parts else first
    for some in parts[1:]:
        yield {"public_key": step.key, "allowed_ips": some}


def _in_parts(addresses: Iterable[Address]) -> Iterator[list[str]]:
    rest = iter(addresses)
    while some := [f"{address}/128" for address in islice(rest, ADDRESSES_AT_ONCE)]:
        yield some


def _read_tunnel(messages: Iterable[Any]) -> Tunnel:
    public_key: PublicKey | None = None
    port = 0
    peers: dict[PublicKey, ActualPeer] = {}
    for message in messages:
        port = message.get_attr("WGDEVICE_A_LISTEN_PORT") or port
        if told := message.get_attr("WGDEVICE_A_PUBLIC_KEY"):
            public_key = _key(told)
        for told in message.get_attr("WGDEVICE_A_PEERS") or ():
            key, peer = _read_peer(told)
            if key in peers:
                # A peer whose addresses did not fit one message goes on in the next, with nothing else.
                before = peers[key]
                allowed_ips = before.allowed_ips | peer.allowed_ips
                peer = replace(before, allowed_ips=allowed_ips, is_foreign=before.is_foreign or peer.is_foreign)
            peers[key] = peer
    return Tunnel(public_key, port, peers)


def _read_peer(told: Any) -> tuple[PublicKey, ActualPeer]:
    allowed: set[Address] = set()
    is_foreign = False
    for one in told.get_attr("WGPEER_A_ALLOWEDIPS") or ():
        address, _, bits = one["addr"].partition("/")
        try:
            allowed.add(Address.parse(address))
        except Invalid:
            is_foreign = True
        is_foreign |= bits != "128"
    time = told.get_attr("WGPEER_A_LAST_HANDSHAKE_TIME")
    peer = ActualPeer(
        endpoint=_endpoint(told.get_attr("WGPEER_A_ENDPOINT")),
        allowed_ips=frozenset(allowed),
        keepalive=told.get_attr("WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL") or 0,
        handshake=time["tv_sec"] + time["tv_nsec"] / 1e9 if time else 0.0,
        received=told.get_attr("WGPEER_A_RX_BYTES") or 0,
        sent=told.get_attr("WGPEER_A_TX_BYTES") or 0,
        is_foreign=is_foreign,
    )
    return _key(told.get_attr("WGPEER_A_PUBLIC_KEY")), peer


def _key(told: Any) -> PublicKey:
    text = told["value"] if isinstance(told, dict) else told
    return PublicKey(text.decode() if isinstance(text, bytes) else text)


def _endpoint(told: Any) -> str | None:
    if not told:
        return None
    return f"[{told['addr']}]:{told['port']}" if ":" in told["addr"] else f"{told['addr']}:{told['port']}"
