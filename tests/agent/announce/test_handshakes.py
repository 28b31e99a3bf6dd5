"""Who greets whom, and when: one of two, once the other knows it."""

from __future__ import annotations

import asyncio

from agent.announce.barrier import Barrier
from agent.announce.handshakes import Handshakes
from store.store import Store
from tests.agent.worlds import environment, host
from tests.waiting import until

ONE = environment(1, [1, 2, 3])
FIRST, SECOND, THIRD = host(1), host(2), host(3)  # their keys ascend
LONG = 60_000  # milliseconds


async def test_the_smaller_key_greets_once_the_other_has_acknowledged(store: Store) -> None:
    await store.environments.commit(ONE, 0)
    for each in (FIRST, SECOND, THIRD):
        await store.hosts.register(each)
        await store.hosts.renew_lease(each.id, LONG)
    greeter, woken = Handshakes(Barrier(store)), asyncio.Event()
    greeter.meet(SECOND, [FIRST, THIRD], [ONE], woken.set)
    await asyncio.sleep(0.1)
    assert greeter.take() == set()  # the third does not know us yet
    await store.acks.acknowledge("h1", {ONE.id: 1})
    await store.acks.acknowledge("h3", {ONE.id: 1})
    await until(woken.is_set)
    assert greeter.take() == {THIRD.public_key}  # and not the first, whose key is smaller: it greets us
    assert greeter.take() == set()


async def test_who_is_in_no_environment_with_us_is_not_greeted(store: Store) -> None:
    greeter = Handshakes(Barrier(store))
    greeter.meet(FIRST, [host(9)], [ONE], lambda: None)
    assert not greeter._tasks


async def test_with_the_store_away_nobody_is_greeted(store: Store) -> None:
    away = Store("unix:///nobody/there.sock")
    greeter = Handshakes(Barrier(away))
    greeter.meet(FIRST, [SECOND], [ONE], lambda: None)
    await until(lambda: not greeter._tasks)
    assert greeter.take() == set()
    await away.close()
