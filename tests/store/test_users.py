"""The users of the store that `deploy/users.acl` makes: each can do its work, and nothing more.

What a resolver's user can do is counted: it sends every command that the server has, with every key of the store at
every place, by itself and from a script. Nothing of it may change anything, or show what is none of its business.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from admin.hosts.authority import load_authority
from store.changes import CHANGES_READ
from store.check import check
from store.credentials import Enrolment
from store.durability import read_risks
from store.errors import Refused, Unavailable
from store.history import KEPT, Entry
from store.keys import ALL_HOSTS
from store.signins import SignIn
from store.store import Store
from store.tokens import Token
from store.writer import Writer
from tests.store.users import ADMIN, BINARIES, PASSWORDS, RESOLVER, WATCHING, Users, with_users
from tests.waiting import until
from tests.watcher.harness import following
from tests.worlds import LONG_LEASE, NOW, PRODUCTION, STAGING, build_on, lease_of, make_host
from zones.edits import PutService

# Secrets that lie in the store, each under a key that a resolver has no business with.
DIGEST, FINGERPRINT, INVITATION = "d" * 64, "f" * 64, "e" * 64
DENIED = "(?i)no.?perm"
# They change the connection, and read and write no data.
OF_THE_CONNECTION = {b"quit", b"reset", b"hello", b"auth", b"client", b"select", b"multi", b"exec", b"discard"}


@pytest_asyncio.fixture(params=["valkey", "redis"])
async def users(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Users]:
    if (binary := BINARIES[request.param]) is None:
        pytest.skip("no redis-server on this machine: install the package redis-server")
    async with with_users(binary, tmp_path) as users:
        yield users


async def fill(store: Store) -> None:
    """Does all that a control plane does."""
    await store.ping()
    await store.clock.read()
    await load_authority(store)
    for number in (1, 2):
        await store.hosts.register(make_host(number))
        await store.leases.renew(lease_of(f"h{number}"), LONG_LEASE)
    writer = Writer(store)
    await store.environments.commit(build_on(PRODUCTION, 1, "h1"), 0)
    await store.environments.commit(build_on(STAGING, 2, "h2"), 0)
    await writer.edit(PRODUCTION, [PutService("web")], NOW)
    await store.acks.acknowledge(lease_of("h1"), {PRODUCTION: 2, ALL_HOSTS: 2})
    assert (await store.acks.progress(PRODUCTION)).lagging(2, "") == frozenset()
    assert await store.acks.lagging(PRODUCTION, 2, ["h1"]) == frozenset()
    await store.credentials.invite("h1", Enrolment(DIGEST, NOW))
    await store.credentials.enrol("h1", DIGEST, FINGERPRINT, NOW - 1)
    assert await store.credentials.assign("h1", (PRODUCTION,))
    await store.credentials.invite("h2", Enrolment(INVITATION, NOW))
    await store.tokens.add(DIGEST, Token("t1", PRODUCTION, "test", NOW))
    await store.guard.confirm()
    await store.hosts.forget("h2")
    await store.hosts.register(make_host(2))
    await store.leases.renew(lease_of("h2"), LONG_LEASE)
    await store.credentials.invite("h2", Enrolment(INVITATION, NOW))
    await read_risks(store.connection)
    signed = SignIn(DIGEST, "", NOW)
    await store.sign_ins.add("cookie", signed, 60)
    assert await store.sign_ins.find("cookie") == signed
    await store.sign_ins.remove("cookie")
    await store.sign_ins.add_link("link", signed, 60)
    assert [await store.sign_ins.take_link(one) for one in ("link", "link", "made up")] == [signed, None, None]
    for revision in range(1, KEPT + 3):
        await store.history.add(PRODUCTION, Entry(revision, NOW, "root", ()))
    assert [entry.revision for entry in await store.history.read(PRODUCTION)] == list(range(KEPT + 2, 2, -1))
    await store.history.remove(STAGING)


async def test_the_control_plane_can_do_its_work(users: Users) -> None:
    async with users.store(ADMIN) as store, users.client(WATCHING) as redis:
        await fill(store)
        await redis.set(store.connection.keys.environment("lost"), b"{}")
        assert [finding.what for finding in await check(store, repair=True)] == ["environment lost"]
        await redis.delete(store.connection.keys.guard)
        await redis.set(store.connection.keys.guard, "of another type")
        assert any(finding.what == "interlock:guard" for finding in await check(store, repair=True))
        async with following(store, with_hosts=True) as (_, recorder):
            assert recorder.zones.keys() == {PRODUCTION, STAGING}
    assert await users.refused() == []


async def test_a_resolver_can_do_its_work_and_write_nothing(users: Users) -> None:
    async with users.store(ADMIN) as admin, users.store(RESOLVER) as store:
        await fill(admin)
        await users.refused()
        async with following(store) as (watcher, recorder):
            assert recorder.zones.keys() == {PRODUCTION, STAGING}
            await Writer(admin).edit(PRODUCTION, [PutService("late")], NOW)
            await until(lambda: "late" in recorder.zones[PRODUCTION].environment.services)
            await Writer(admin).delete(STAGING, lambda _: None)
            await until(lambda: STAGING not in recorder.zones)
            for number in range(2 * CHANGES_READ):
                await Writer(admin).edit(PRODUCTION, [PutService(f"s{number}")], NOW)
            await until(lambda: f"s{number}" in recorder.zones[PRODUCTION].environment.services)
            assert (await store.changes.read_batch("0-0")).count > 2 * CHANGES_READ
            assert watcher.counts.lost_connections == 0
        assert await users.refused() == []
        with pytest.raises(Refused, match=DENIED):
            await store.environments.commit(build_on(STAGING, 9, "h1"), 0)
        with pytest.raises(Refused, match=DENIED):
            await store.tokens.read()
        assert await read_risks(store.connection) == ()  # it sees what the server may lose, and no password of it


async def test_nothing_that_a_resolver_sends_changes_anything_or_shows_a_secret(users: Users) -> None:
    async with users.store(ADMIN) as admin:
        await fill(admin)
        authority = await admin.credentials.authority()
        keys = [admin.connection.keys.prefix + "environment:new", *await names(users)]
    assert authority
    async with users.client(WATCHING) as watching:
        for key in await names(users):
            await watching.persist(key)  # leases and sign-ins would end by themselves while a slow machine sends
    before = await contents(users)
    sent, answered, shown = 0, 0, list[str]()
    secrets = (DIGEST, FINGERPRINT, INVITATION, authority.decode()[40:100], make_host(1).public_key)
    async with users.client(WATCHING) as watching, users.client(RESOLVER) as redis:
        commands = await watching.execute_command("COMMAND")
        for batch in batches(attempts(commands, keys)):
            async with redis.pipeline(transaction=False) as pipe:
                for one in batch:
                    pipe.execute_command(*one)
                replies = await pipe.execute(raise_on_error=False)
            sent += len(replies)
            for one, reply in zip(batch, replies, strict=True):
                answered += not isinstance(reply, Exception)
                shown += [f"{one} shows {secret}" for secret in secrets if secret in str(reply)]
    print(f"{sent} commands sent, {answered} answered, {len(shown)} secrets shown")
    assert sent > 10_000
    assert shown == []
    assert await contents(users) == before


async def test_who_has_no_password_is_nobody(users: Users) -> None:
    for url in (users.server.url, users.url(ADMIN).replace(PASSWORDS[ADMIN], "guess")):
        store = Store(url)
        with pytest.raises(Unavailable, match=r"(?i)auth|password"):
            await store.tokens.read()
        await store.close()


def attempts(commands: Any, keys: list[str]) -> Iterator[tuple[Any, ...]]:
    """Every command with every key at every place, and scripts that call every command."""
    words = [(found[0], found[1], found[9] if len(found) > 9 else ()) for found in listed(commands)]
    called = []
    for name, arity, children in words:
        if name in OF_THE_CONNECTION:
            continue
        variants = [(name,), *((name, child[0].partition(b"|")[2]) for child in children)]
        for words_ in variants:
            places = max(abs(arity) - len(words_), 1) + (arity < 0)
            for key in keys:
                for place in range(places):
                    arguments = ["1"] * places
                    arguments[place] = key
                    yield (*words_, *arguments)
                    called.append((*words_, *arguments))
    for key in keys:
        for command in ("EVAL", "EVAL_RO"):
            yield (command, "return redis.call(ARGV[1], KEYS[1])", "1", key, "GET")
            yield (command, "return redis.call(ARGV[1], ARGV[2])", "0", "HGETALL", key)
            yield (command, "return redis.call('SET', KEYS[1], 'stolen')", "1", key)
            yield (command, "return redis.call('DEL', ARGV[1])", "0", key)
    for one in called:
        text = "return redis.pcall(unpack(ARGV))"
        yield ("EVAL_RO", text, "0", *one)


def listed(commands: Any) -> list[Any]:
    """The entries of the reply to COMMAND, however the library has taken it apart."""
    if not isinstance(commands, dict):
        return list(commands)
    found = []
    for name, entry in commands.items():
        children = entry.get("subcommands") or ()
        found.append([name.encode(), entry["arity"], *[None] * 7, [[_octets(child[0])] for child in children]])
    return found


def _octets(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


def batches(attempts: Iterator[tuple[Any, ...]]) -> Iterator[list[tuple[Any, ...]]]:
    batch = []
    for one in attempts:
        batch.append(one)
        if len(batch) == 1000:
            yield batch
            batch = []
    yield batch


async def names(users: Users) -> list[str]:
    async with users.client(WATCHING) as redis:
        return sorted([key.decode() async for key in redis.scan_iter("*")])


async def contents(users: Users) -> dict[str, bytes]:
    """All keys, each with its value, but what ends by itself."""
    async with users.client(WATCHING) as redis:
        return {key: await redis.dump(key) for key in await names(users)}
