"""One suite for both backends, on a real device: the kernel's WireGuard where it has one, and wireguard-go."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import subprocess
from collections.abc import Awaitable, Callable

import pytest

from agent.errors import Failed
from agent.keys import PrivateKey
from agent.plan.peers import DropAddresses, DropPeer, SetPeer, Tunnel, after, diff
from agent.plan.wanted import Peer
from agent.system.netlink import Links
from agent.system.wireguard import choose
from agent.system.wireguard.kernel import Kernel
from agent.system.wireguard.userspace import SOCKETS, Userspace
from tests import wireguard
from tests.agent.inside import run, why_not
from tests.agent.worlds import address, key
from tests.namespaces import Namespace
from zones.keys import PublicKey

PORT, MTU = 51820, 1420

Device = Kernel | Userspace
Body = Callable[[Device], Awaitable[None]]


@pytest.fixture(params=wireguard.params())
def on_device(request: pytest.FixtureRequest, space: Namespace) -> Callable[[Body], None]:
    """Runs a body on a device of its own, inside ``space``; the device is gone afterwards."""
    name = f"wgtest{secrets.token_hex(3)}"  # of its own: wireguard-go's sockets are the machine's

    async def main(body: Body) -> None:
        links = Links()
        device: Device = Kernel(name, links) if request.param == "kernel" else Userspace(name, links)
        try:
            await body(device)
        finally:
            await device.remove()
            links.close()

    return lambda body: run(space, main(body))


def allow(name: str, peer: PublicKey, prefix: str) -> None:
    """A manual change of the device."""
    subprocess.run(["wg", "set", name, "peer", peer, "allowed-ips", prefix], check=True)


async def made(device: Device) -> PrivateKey:
    private = PrivateKey.generate()
    await device.ensure(private, PORT, MTU)
    return private


async def read(device: Device) -> Tunnel:
    found = await device.read()
    assert found is not None
    return found


def test_a_device_is_made_with_its_key_and_port(on_device: Callable[[Body], None]) -> None:
    async def body(device: Device) -> None:
        assert await device.read() is None
        private = await made(device)
        assert await read(device) == Tunnel(private.public, PORT, {})
        await device.ensure(private, PORT, MTU)
        assert await read(device) == Tunnel(private.public, PORT, {})

    on_device(body)


def test_peers_come_change_and_go_one_by_one(on_device: Callable[[Body], None]) -> None:
    async def body(device: Device) -> None:
        await made(device)
        await device.apply([SetPeer(key(1), "192.0.2.1:51820", 0, (address(1, 1), address(1, 2)))])
        await device.apply([SetPeer(key(2), "[2001:db8::2]:51820", 25, (address(1, 3),))])
        peers = (await read(device)).peers
        assert peers[key(1)].allowed_ips == {address(1, 1), address(1, 2)}
        assert (peers[key(2)].endpoint, peers[key(2)].keepalive) == ("[2001:db8::2]:51820", 25)
        await device.apply([SetPeer(key(1), "192.0.2.9:51820", add=(address(1, 4),))])
        changed = (await read(device)).peers[key(1)]
        assert (changed.endpoint, len(changed.allowed_ips)) == ("192.0.2.9:51820", 3)
        await device.apply([DropPeer(key(1))])
        assert (await read(device)).peers.keys() == {key(2)}

    on_device(body)


def test_an_address_can_be_taken_from_a_peer_that_stays(on_device: Callable[[Body], None]) -> None:
    async def body(device: Device) -> None:
        await made(device)
        await device.apply([SetPeer(key(1), "192.0.2.1:51820", 0, (address(1, 1), address(1, 2)))])
        await device.apply([DropAddresses((address(1, 1),))])
        peers = (await read(device)).peers
        assert {key_: peer.allowed_ips for key_, peer in peers.items()} == {key(1): {address(1, 2)}}
        assert peers[key(1)].endpoint == "192.0.2.1:51820"

    on_device(body)


def test_an_address_moves_to_the_peer_that_it_is_given_to(on_device: Callable[[Body], None]) -> None:
    async def body(device: Device) -> None:
        await made(device)
        await device.apply([SetPeer(key(1), None, 0, (address(1, 1),)), SetPeer(key(2), None, 0)])
        await device.apply([SetPeer(key(2), add=(address(1, 1),))])
        peers = (await read(device)).peers
        assert not peers[key(1)].allowed_ips
        assert peers[key(2)].allowed_ips == {address(1, 1)}

    on_device(body)


def test_what_was_allowed_manually_is_seen_and_corrected(on_device: Callable[[Body], None]) -> None:
    async def body(device: Device) -> None:
        await made(device)
        wanted = {key(1): Peer("192.0.2.1:51820", frozenset({address(1, 1)}))}
        await device.apply(diff(wanted, await read(device)))
        name = device._name
        allow(name, key(1), "fd12::/16")
        assert (await read(device)).peers[key(1)].is_foreign
        await device.apply(diff(wanted, await read(device)))
        corrected = (await read(device)).peers[key(1)]
        assert corrected.allowed_ips == {address(1, 1)}
        assert not corrected.is_foreign

    if reason := why_not("wg"):
        pytest.skip(reason)
    on_device(body)


def test_what_is_computed_is_what_is_read_back(on_device: Callable[[Body], None]) -> None:
    async def body(device: Device) -> None:
        await made(device)
        worlds: list[dict[int, list[int]]] = [{1: [1, 2], 2: [3]}, {1: [2, 3], 3: [1]}, {2: [1, 2, 3]}, {}]
        computed = await read(device)
        for world in worlds:
            wanted = {
                key(k): Peer(f"192.0.2.{k}:51820", frozenset(address(1, at) for at in of)) for k, of in world.items()
            }
            steps = diff(wanted, computed)
            await device.apply(steps)
            computed = after(computed, steps)
            assert await read(device) == computed
            assert diff(wanted, computed) == []

    on_device(body)


def test_the_key_changes_and_the_peers_stay(on_device: Callable[[Body], None]) -> None:
    async def body(device: Device) -> None:
        await made(device)
        await device.apply([SetPeer(key(1), "192.0.2.1:51820", 0, (address(1, 1),))])
        upcoming = PrivateKey.generate()
        await device.set_key(upcoming)
        found = await read(device)
        assert found.public_key == upcoming.public
        assert found.peers.keys() == {key(1)}

    on_device(body)


def test_many_peers_with_many_addresses(on_device: Callable[[Body], None]) -> None:
    async def body(device: Device) -> None:
        await made(device)
        wanted = {
            key(peer): Peer(f"192.0.2.1:{10000 + peer}", frozenset(address(peer, at) for at in range(1, 21)))
            for peer in range(1, 301)
        }
        await device.apply(diff(wanted, await read(device)))
        assert diff(wanted, await read(device)) == []

    on_device(body)


def test_a_peer_with_more_addresses_than_a_message_holds(on_device: Callable[[Body], None]) -> None:
    async def body(device: Device) -> None:
        await made(device)
        wanted = {key(1): Peer("192.0.2.1:51820", frozenset(address(1, at) for at in range(1, 3001)))}
        await device.apply(diff(wanted, await read(device)))
        assert diff(wanted, await read(device)) == []
        assert len((await read(device)).peers[key(1)].allowed_ips) == 3000

    on_device(body)


# wireguard-go alone


def test_a_wireguard_go_that_has_died_is_started_again(space: Namespace) -> None:
    if reason := wireguard.why_not("userspace"):
        pytest.skip(reason)

    async def main() -> None:
        links = Links()
        device = Userspace(f"wgtest{secrets.token_hex(3)}", links)
        private = await made(device)
        (SOCKETS / f"{device._name}.sock").unlink()
        async with asyncio.timeout(10):
            while links.exists(device._name):  # noqa: ASYNC110 nothing notifies of it
                await asyncio.sleep(0.01)
        assert await device.read() is None
        async with asyncio.timeout(10):
            while True:
                with contextlib.suppress(Failed):  # for a moment the old one still has the port
                    await device.ensure(private, PORT, MTU)
                    break
        assert (await read(device)).public_key == private.public
        await device.remove()
        links.close()

    run(space, main())


def test_what_there_is_already_decides_between_the_backends(space: Namespace) -> None:
    if reason := wireguard.why_not("userspace"):
        pytest.skip(reason)

    async def main() -> None:
        links = Links()
        device = Userspace(f"wgtest{secrets.token_hex(3)}", links)
        await made(device)
        assert isinstance(await choose("auto", device._name, links), Userspace)
        await device.remove()
        links.close()

    run(space, main())


def test_without_wireguard_go_the_error_says_what_to_install(space: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        links = Links()
        with pytest.raises(Failed, match="install the package wireguard-go"):
            await Userspace("wgtestnone", links).ensure(PrivateKey.generate(), PORT, MTU)
        links.close()

    monkeypatch.setenv("PATH", "")
    run(space, main())
