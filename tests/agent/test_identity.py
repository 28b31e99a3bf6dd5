"""The identity of a host when its agent starts: by its keys, and by what the store has of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from agent.errors import CannotStart
from agent.identity import Identity, load_identity
from agent.keys import NEXT_KEY, Keyring
from store.store import Store
from tests.agent.worlds import key
from tests.worlds import lease_of
from zones.hosts import Host

ENDPOINT = "192.0.2.1:51820"
LONG = 60_000  # milliseconds


async def loaded(store: Store, directory: Path, host: str = "h1", endpoint: str = ENDPOINT) -> Identity:
    return await load_identity(store, Keyring(directory), host, endpoint, "eu")


async def test_a_new_host_makes_its_key_and_keeps_it(store: Store, tmp_path: Path) -> None:
    first = await loaded(store, tmp_path)
    assert first.host == Host("h1", ENDPOINT, first.key.public, region="eu")
    assert (await loaded(store, tmp_path)).key == first.key


async def test_the_port_and_the_underlay_are_those_of_the_endpoint(store: Store, tmp_path: Path) -> None:
    identity = await loaded(store, tmp_path, endpoint="[2001:db8::1]:4500")
    assert (identity.port, identity.underlay) == (4500, "2001:db8::1")


async def test_a_name_that_another_living_host_has_is_refused(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.identity.CLAIM_DEADLINE", 0.3)
    await store.hosts.register(Host("h1", "192.0.2.9:51820", key(9)))
    await store.leases.renew(lease_of("h1"), LONG)
    with pytest.raises(CannotStart, match=r"the host 'h1', and lives, at 192\.0\.2\.9:51820: .* another --host"):
        await loaded(store, tmp_path)


async def test_the_name_of_a_dead_host_can_be_taken_over(store: Store, tmp_path: Path) -> None:
    await store.hosts.register(Host("h1", "192.0.2.9:51820", key(9)))
    identity = await loaded(store, tmp_path)
    await store.hosts.register(identity.host)
    assert (await store.hosts.read()).hosts["h1"].public_key == identity.key.public


async def test_a_host_that_was_being_drained_still_is(store: Store, tmp_path: Path) -> None:
    identity = await loaded(store, tmp_path)
    await store.hosts.register(replace(identity.host, draining=True))
    assert (await loaded(store, tmp_path)).host.draining


async def test_a_rotation_that_came_as_far_as_the_store_is_finished(store: Store, tmp_path: Path) -> None:
    keyring, identity = Keyring(tmp_path), await loaded(store, tmp_path)
    upcoming = keyring.prepare()
    await store.hosts.register(replace(identity.host, public_key=upcoming.public))
    assert (await loaded(store, tmp_path)).key == upcoming
    assert not (tmp_path / NEXT_KEY).exists()


async def test_a_rotation_that_had_only_been_announced_is_taken_back(store: Store, tmp_path: Path) -> None:
    keyring, identity = Keyring(tmp_path), await loaded(store, tmp_path)
    upcoming = keyring.prepare()
    await store.hosts.register(replace(identity.host, next_public_key=upcoming.public))
    again = await loaded(store, tmp_path)
    assert (again.key, again.host.next_public_key) == (identity.key, None)
    assert not (tmp_path / NEXT_KEY).exists()


async def test_with_the_store_away_the_key_is_enough(tmp_path: Path) -> None:
    away = Store(f"unix://{tmp_path}/nobody.sock")
    identity = await loaded(away, tmp_path)
    assert identity.host.public_key == identity.key.public
    await away.close()
