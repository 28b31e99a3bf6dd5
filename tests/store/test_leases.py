"""Leases in a real store: one agent is a host at a time, and what is done in a host's name needs its lease."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import pytest

from store import leases
from store.errors import LeaseNotHeld, WrongKey
from store.keys import ALL_HOSTS
from store.leases import UNINTERRUPTED, Lease, Verdict
from store.store import Store
from store.writer import Writer
from tests import worlds
from tests.store.servers import inside
from tests.waiting import scaled, until_true
from tests.worlds import LONG_LEASE, PRODUCTION, lease_of, make_host
from zones.edits import DeleteInstance

FIRST, SECOND = Lease("h1", "first"), Lease("h1", "second")


async def test_one_agent_at_a_time_holds_it(store: Store) -> None:
    await store.leases.renew(FIRST, LONG_LEASE)
    await store.leases.renew(FIRST, LONG_LEASE)
    with pytest.raises(LeaseNotHeld, match="another agent is the host 'h1', and lives"):
        await store.leases.renew(SECOND, LONG_LEASE)
    await store.leases.renew(Lease("h2", "second"), LONG_LEASE)


async def test_it_is_free_when_it_has_ended(store: Store) -> None:
    await store.leases.renew(FIRST, 1)

    async with asyncio.timeout(scaled(10)):
        while True:
            with contextlib.suppress(LeaseNotHeld):
                await store.leases.renew(SECOND, LONG_LEASE)
                break
    with pytest.raises(LeaseNotHeld):
        await store.leases.renew(FIRST, LONG_LEASE)


@pytest.mark.parametrize("has_been_looked", [False, True], ids=["before the first look", "after it"])
async def test_after_an_outage_it_is_left_to_its_last_holder(
    store: Store, store_url: str, has_been_looked: bool
) -> None:
    """A copy of the host's disk, which started during the outage, may be faster to ask for it than the host."""
    await store.leases.judge(0, least=0)
    await store.leases.renew(FIRST, LONG_LEASE)
    async with inside(store, store_url) as (redis, keys):
        for field in ("@looked", "@since"):
            await redis.hincrby(keys.hosts_missed, field, -UNINTERRUPTED - 1)
        await redis.delete(keys.lease("h1"))  # as if it had ended
    if has_been_looked:
        await store.leases.judge(0, least=0)
    with pytest.raises(LeaseNotHeld):
        await store.leases.renew(SECOND, LONG_LEASE, where="192.0.2.9:51820")
    await store.leases.renew(Lease("h2", "second"), LONG_LEASE)  # which nobody has held
    assert await store.leases.renew(FIRST, LONG_LEASE) == "192.0.2.9:51820"


async def test_a_while_after_an_outage_it_is_free_as_always(store: Store, store_url: str) -> None:
    await store.leases.judge(0, least=0)
    await store.leases.renew(FIRST, LONG_LEASE)
    async with inside(store, store_url) as (redis, keys):
        await redis.delete(keys.lease("h1"))
        with pytest.raises(LeaseNotHeld):
            await store.leases.renew(SECOND, LONG_LEASE)
        await redis.hincrby(keys.hosts_missed, "@since", -LONG_LEASE)
    await store.leases.judge(0, least=0)
    await store.leases.renew(SECOND, LONG_LEASE)


async def test_its_holder_learns_of_a_claim_that_was_refused(store: Store) -> None:
    assert await store.leases.renew(FIRST, LONG_LEASE, where="here") == ""
    with pytest.raises(LeaseNotHeld):
        await store.leases.renew(SECOND, LONG_LEASE, where="192.0.2.9:51820, on the machine 'copy'")
    for _ in range(2):
        assert await store.leases.renew(FIRST, LONG_LEASE, where="here") == "192.0.2.9:51820, on the machine 'copy'"


async def test_a_successor_that_waited_is_no_rival(store: Store, store_url: str) -> None:
    await store.leases.renew(FIRST, LONG_LEASE, where="here")
    with pytest.raises(LeaseNotHeld):
        await store.leases.renew(SECOND, LONG_LEASE, where="here")
    async with inside(store, store_url) as (redis, keys):
        await redis.delete(keys.lease("h1"))  # as if it had ended
    assert await store.leases.renew(SECOND, LONG_LEASE, where="here") == ""


async def test_a_host_that_is_not_able_keeps_it_and_is_not_live(store: Store) -> None:
    await store.hosts.register(make_host(1))
    await store.leases.renew(FIRST, LONG_LEASE, is_able=False)
    assert await store.leases.live(["h1"]) == frozenset()
    with pytest.raises(LeaseNotHeld):
        await store.leases.renew(SECOND, LONG_LEASE)
    await store.leases.renew(FIRST, LONG_LEASE)
    assert await store.leases.live(["h1"]) == {"h1"}


async def test_the_lease_of_a_release_without_incarnations_is_anybodys(store: Store, store_url: str) -> None:
    async with inside(store, store_url) as (redis, keys):
        await redis.set(keys.lease("h1"), "", px=LONG_LEASE)
    assert await store.leases.live(["h1"]) == {"h1"}
    await store.leases.renew(FIRST, LONG_LEASE)


async def test_renewals_that_come_together_are_one_command_and_each_has_its_own_outcome(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, commands = leases.RENEW_SCRIPT.run, 0

    async def counted(*arguments: object) -> object:
        nonlocal commands
        commands += 1
        return await run(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(leases.RENEW_SCRIPT, "run", counted)
    await store.leases.renew(FIRST, LONG_LEASE, where="here")
    asked = [
        store.leases.renew(Lease("h2", "second"), LONG_LEASE, is_able=False),
        store.leases.renew(SECOND, LONG_LEASE, where="elsewhere"),
        store.leases.renew(FIRST, LONG_LEASE, where="here"),
        store.leases.renew(Lease("h3", "third"), LONG_LEASE, where="a space and an é"),
        store.leases.renew(Lease("h3", "fourth"), LONG_LEASE),
    ]
    outcomes = await asyncio.gather(*asked, return_exceptions=True)
    assert commands == 2
    refused = [outcome for outcome in outcomes if isinstance(outcome, LeaseNotHeld)]
    assert [str(error) for error in refused] == [
        "another agent is the host 'h1', and lives", "another agent is the host 'h3', and lives",
    ]  # fmt: skip
    assert [outcome for outcome in outcomes if not isinstance(outcome, LeaseNotHeld)] == ["", "elsewhere", ""]
    assert await store.leases.live(["h1", "h2", "h3"]) == {"h1", "h3"}
    with pytest.raises(LeaseNotHeld):
        await store.leases.renew(Lease("h3", "fourth"), LONG_LEASE)


async def test_one_that_the_store_refuses_holds_up_no_other(store: Store, store_url: str) -> None:
    """A host that was down comes back, which cannot be announced: it alone must hear of that."""
    await _live(store, "h1", "h2", "h3")
    await _end(store, "h2")
    await _judge(store)
    await _until_judged(store)
    async with inside(store, store_url) as (redis, keys):
        await redis.rename(keys.changes, f"{keys.changes}:kept")
        await redis.rpush(keys.changes, "something else")
        renewals = [store.leases.renew(lease_of(host), 2 * LONG_LEASE) for host in ("h1", "h2", "h3")]
        outcomes = await asyncio.gather(*renewals, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [str, WrongKey, str]
        for host in ("h1", "h3"):
            assert await redis.pttl(keys.lease(host)) > LONG_LEASE
        assert await store.hosts.down() == {"h2"}
        await redis.rename(f"{keys.changes}:kept", keys.changes)
    await store.leases.renew(lease_of("h2"), LONG_LEASE)
    assert await store.hosts.down() == frozenset()


async def test_a_renewal_whose_session_has_ended_takes_no_lease(store: Store) -> None:
    gone = asyncio.create_task(store.leases.renew(FIRST, LONG_LEASE))
    await asyncio.sleep(0)
    gone.cancel()
    await store.leases.renew(SECOND, LONG_LEASE)


IN_THE_NAME_OF_A_HOST: dict[str, Callable[[Store, Lease], Awaitable[object]]] = {
    "register": lambda store, lease: store.hosts.register(make_host(1), lease=lease),
    "register the same": lambda store, lease: store.hosts.register(make_host(1, draining=True), lease=lease),
    "change": lambda store, lease: store.hosts.change("h1", lambda _: make_host(1), lease),
    "forget": lambda store, lease: store.hosts.forget("h1", lease),
    "acknowledge": lambda store, lease: store.acks.acknowledge(lease, {PRODUCTION: 1, ALL_HOSTS: 1}),
    "delete an instance": lambda store, lease: Writer(store, lease=lease).edit(
        PRODUCTION, [DeleteInstance("api", "on-h1")], worlds.NOW
    ),
}


@pytest.mark.parametrize("action", IN_THE_NAME_OF_A_HOST)
@pytest.mark.parametrize("holder", ["another", "nobody"])
async def test_what_is_done_in_the_name_of_a_host_needs_its_lease(
    store: Store, store_url: str, action: str, holder: str
) -> None:
    act = IN_THE_NAME_OF_A_HOST[action]
    await store.hosts.register(make_host(1, draining=True))
    await store.environments.commit(worlds.build_on(PRODUCTION, 1, "h1", "h2"), 0)
    if holder == "another":
        await store.leases.renew(SECOND, LONG_LEASE)
    before = await _state(store, store_url)
    with pytest.raises(LeaseNotHeld, match="does not hold the lease of the host 'h1': nothing was changed"):
        await act(store, FIRST)
    assert await _state(store, store_url) == before

    async with inside(store, store_url) as (redis, keys):
        await redis.delete(keys.lease("h1"))
    await store.leases.renew(FIRST, LONG_LEASE)
    await act(store, FIRST)


async def test_an_administrator_needs_none(store: Store) -> None:
    await store.leases.renew(lease_of("h1"), LONG_LEASE)
    await store.hosts.register(make_host(1))
    assert await store.hosts.change("h1", lambda _: make_host(1, draining=True))
    await store.hosts.forget("h1")


async def _state(store: Store, store_url: str) -> dict[bytes, object]:
    """All that the store holds, but how long leases last."""
    async with inside(store, store_url) as (redis, keys):
        return {key: await redis.dump(key) for key in await redis.keys(f"{keys.prefix}*")}


# Which hosts are down

SOON = 40  # milliseconds: a grace that a test waits for


async def test_a_host_is_down_when_its_lease_has_been_gone_for_the_grace(store: Store) -> None:
    await _live(store, "h1", "h2")
    await _end(store, "h1")
    assert (await _judge(store)).missed == ("h1",)  # from this look on the time counts
    position = await store.changes.position()
    assert (await _until_judged(store)).down == ("h1",)
    hosts = await store.hosts.read()
    assert (hosts.down, await store.hosts.down()) == (frozenset({"h1"}), frozenset({"h1"}))
    assert [change.host for change in await store.changes.read_after(position.change)] == ["h1"]
    for _ in range(3):  # by other control planes
        assert await _judge(store) == Verdict((), (), ())
    assert await store.changes.position() != position
    assert (await store.hosts.read()).revision == 2  # no document has changed


async def test_a_renewal_brings_a_host_back_at_once(store: Store) -> None:
    await _live(store, "h1", "h2")
    await _end(store, "h1")
    await _judge(store)
    await _until_judged(store)
    position = await store.changes.position()
    await store.leases.renew(lease_of("h1"), LONG_LEASE, is_able=False)  # it lives, whatever it can do
    assert await store.hosts.down() == frozenset()
    assert [change.host for change in await store.changes.read_after(position.change)] == ["h1"]
    position = await store.changes.position()
    await store.leases.renew(lease_of("h1"), LONG_LEASE)
    assert await store.changes.position() == position  # said once


async def test_a_host_that_an_earlier_release_renews_is_found_to_be_back(store: Store, store_url: str) -> None:
    await _live(store, "h1", "h2")
    await _end(store, "h1")
    await _judge(store)
    await _until_judged(store)
    async with inside(store, store_url) as (redis, keys):
        await redis.set(keys.lease("h1"), "i1 able", px=LONG_LEASE)
    assert (await _judge(store)).up == ("h1",)
    assert await store.hosts.down() == frozenset()


async def test_nobody_is_down_because_nobody_looked(store: Store) -> None:
    """All control planes, or the store, were away: leases have ended because nobody could renew them."""
    await _live(store, "h1", "h2")
    await _end(store, "h1")
    assert (await _judge(store)).missed == ("h1",)
    await asyncio.sleep(2 * SOON / 1000)  # that so much time passes is what is tested
    verdict = await store.leases.judge(SOON, least=0, most=SOON, settle=60_000)  # the last look was long ago
    assert verdict == Verdict((), (), ("h1",))
    for _ in range(5):
        await asyncio.sleep(SOON / 4000)
        assert (await _judge(store)).down == ()  # it has the time to come back
    await store.leases.renew(lease_of("h1"), LONG_LEASE)
    assert (await _judge(store)).missed == ()


async def test_where_no_host_has_a_lease_none_is_down(store: Store, store_url: str) -> None:
    """Then the fault is on the way to the control planes, or leases were lost with the data."""
    await _live(store, "h2", "h1")  # a small hash keeps the order in which it was filled; a verdict has that of the ids
    for host in ("h1", "h2"):
        await _end(store, host)
    for _ in range(2):
        assert await _judge(store) == Verdict((), (), ("h1", "h2"))
        async with inside(store, store_url) as (redis, keys):
            for host in ("h1", "h2"):
                await redis.hincrby(keys.hosts_missed, host, -LONG_LEASE)  # as if it were gone for so long
    assert await _judge(store) == Verdict((), (), ("h1", "h2"))
    await store.leases.renew(lease_of("h2"), LONG_LEASE)
    assert (await _judge(store, LONG_LEASE)).down == ()  # from now on the time of the other one counts
    assert (await _until_judged(store)).down == ("h1",)


async def test_a_look_soon_after_another_decides_nothing(store: Store) -> None:
    await _live(store, "h1", "h2")
    await _end(store, "h1")
    await _judge(store)
    assert await store.leases.judge(0, least=60_000) == Verdict((), (), ())
    assert (await store.leases.judge(0, least=0)).down == ("h1",)


async def test_a_host_that_is_forgotten_is_not_down_any_more(store: Store, store_url: str) -> None:
    await _live(store, "h1", "h2")
    await _end(store, "h1")
    await _judge(store)
    await _until_judged(store)
    await store.hosts.forget("h1")
    assert await store.hosts.down() == frozenset()
    assert await _judge(store) == Verdict((), (), ())
    async with inside(store, store_url) as (redis, keys):
        assert set(await redis.hkeys(keys.hosts_missed)) == {b"@looked", b"@since", b"@holder h2"}


async def _live(store: Store, *hosts: str) -> None:
    for host in hosts:
        await store.hosts.register(make_host(int(host[1:])))
        await store.leases.renew(lease_of(host), LONG_LEASE)
    await _judge(store)


async def _end(store: Store, host: str) -> None:
    async with store.connection.client() as redis:
        await redis.delete(store.connection.keys.lease(host))


async def _judge(store: Store, grace: int = SOON) -> Verdict:
    return await store.leases.judge(grace, least=0, most=60_000, settle=0)


async def _until_judged(store: Store) -> Verdict:
    async def judged() -> Verdict | None:
        verdict = await _judge(store)
        return verdict if verdict.down else None

    found = await until_true(judged)
    assert found
    return found
