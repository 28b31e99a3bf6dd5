"""The record of a workload in a real store: whose it is, where it is found again, and who may change it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from msgspec.structs import replace

from agent.attach.record import InstanceRecords
from agent.errors import Refused
from agent.identity import Identity
from agent.keys import PrivateKey
from store.store import Store
from store.writer import Writer
from tests.agent.worlds import ATTACHMENT, address, environment, host
from tests.worlds import lease_of
from zones.errors import Missing
from zones.model import Environment, State

ONE = environment(1, [2])  # its instance a1 is on h2
LEASE = 60_000  # milliseconds; longer than a test


@pytest_asyncio.fixture
async def records(store: Store) -> AsyncIterator[InstanceRecords]:
    """The records of the host h1."""
    await store.environments.commit(ONE, 0)
    identity = Identity(host(1), PrivateKey.generate(), lease_of("h1").incarnation, is_admitted=True)
    await store.leases.renew(identity.lease, LEASE)
    yield InstanceRecords(store, Writer(store, lease=identity.lease), identity)


async def read(store: Store) -> Environment:
    _, found = await store.environments.read(ONE.id)
    assert found is not None
    return found


async def test_the_first_commit_gives_the_instance_its_address_and_the_next_one_keeps_it(
    records: InstanceRecords,
) -> None:
    wanted = replace(ATTACHMENT, instance="new", address=None)
    first = await records.put(wanted, State.STARTING)
    assert (first.service, first.instance.host, first.instance.state) == ("api", "h1", State.STARTING)
    second = await records.put(wanted, State.READY)
    assert second.instance == replace(first.instance, state=State.READY)
    assert set(second.hosts) == {"h1", "h2"}


async def test_an_instance_of_a_live_host_is_refused(records: InstanceRecords, store: Store) -> None:
    await store.leases.renew(lease_of("h2"), LEASE)
    with pytest.raises(Refused, match="attached to host h2, which lives"):
        await records.put(ATTACHMENT, State.STARTING)
    assert await read(store) == ONE


async def test_an_instance_of_a_dead_host_is_taken_over_with_its_address(records: InstanceRecords) -> None:
    taken = await records.put(ATTACHMENT, State.STARTING)
    assert (taken.instance.host, taken.instance.address) == ("h1", address(1, 1))


async def test_an_instance_is_found_by_its_address_after_its_service_was_renamed(
    records: InstanceRecords, store: Store
) -> None:
    await records.put(ATTACHMENT, State.STARTING)
    before = await read(store)
    renamed = replace(before, services={"web": before.services["api"]}, revision=before.revision + 1)
    await store.environments.commit(renamed, before.revision)
    record = await records.put(ATTACHMENT, State.READY)
    assert (record.service, record.instance.address) == ("web", address(1, 1))
    await records.set_state(ATTACHMENT, State.DRAINING)
    assert (await read(store)).services["web"].instances["a1"].state is State.DRAINING


async def test_the_record_of_another_host_is_not_removed(records: InstanceRecords, store: Store) -> None:
    assert await records.remove(ATTACHMENT) is None
    assert await read(store) == ONE


async def test_a_removed_record_is_gone_and_removing_it_again_changes_nothing(records: InstanceRecords) -> None:
    await records.put(ATTACHMENT, State.READY)
    after = await records.remove(ATTACHMENT)
    assert after is not None
    assert after.services["api"].instances == {}
    assert await records.remove(ATTACHMENT) is None


async def test_without_its_environment_there_is_no_record(records: InstanceRecords) -> None:
    with pytest.raises(Missing):
        await records.put(replace(ATTACHMENT, environment="e9"), State.STARTING)
