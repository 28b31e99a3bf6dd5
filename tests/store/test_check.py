"""Looking through the whole store: what is damaged is named, and what can be mended without a decision is mended."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from store import check as checking
from store.errors import NetworkLost
from store.store import Store
from store.tokens import Token
from store.writer import Writer
from tests.store.servers import inside
from tests.store.test_damage import BEFORE, DAMAGES
from tests.store.test_wrong_keys import LARGEST
from tests.worlds import NOW, PRODUCTION, STAGING, build, make_host, toggled
from zones.edits import SetEnabled


async def fill(store: Store) -> None:
    await store.environments.commit(BEFORE, 0)
    await store.environments.commit(build(STAGING, 2), 0)


async def test_nothing_is_wrong_with_what_the_writers_made(store: Store) -> None:
    assert await checking.check(store) == []
    await fill(store)
    await store.environments.delete(BEFORE)
    assert await checking.check(store) == []


@pytest.mark.parametrize("damage", DAMAGES)
async def test_damage_is_named_and_mended_or_left_to_a_person(store: Store, store_url: str, damage: str) -> None:
    make, _, adoptable = DAMAGES[damage]
    await store.environments.commit(BEFORE, 0)
    async with inside(store, store_url) as (redis, keys):
        await make(redis, keys)
    [finding] = await checking.check(store)
    assert finding.what == f"environment {PRODUCTION}"
    assert "--repair" in finding.outcome
    [mended] = await checking.check(store, repair=True)
    if adoptable:
        assert "is now revision" in mended.outcome
        assert await checking.check(store) == []
        await Writer(store).edit(PRODUCTION, [SetEnabled(enabled=False)], NOW)
    else:
        assert "replace it" in mended.outcome
        assert [one.what for one in await checking.check(store)] == [f"environment {PRODUCTION}"]


async def test_a_line_that_names_other_hosts_is_named_and_mended(store: Store, store_url: str) -> None:
    await fill(store)
    async with inside(store, store_url) as (redis, keys):
        line = await redis.hget(keys.environments, STAGING)
        await redis.hset(keys.environments, STAGING, b" ".join([*line.split()[:2], b"h1"]))
    [finding] = await checking.check(store)
    assert finding.what == f"environment {STAGING}"
    assert "names other hosts (h1)" in finding.problem
    assert "is now revision" in (await checking.check(store, repair=True))[0].outcome
    assert await checking.check(store) == []


async def test_a_stream_that_takes_no_more_and_a_number_that_is_none_are_moved_aside(
    store: Store, store_url: str
) -> None:
    await fill(store)
    async with inside(store, store_url) as (redis, keys):
        await redis.xadd(keys.changes, {"hello": "world"}, id=LARGEST)
        await redis.xdel(keys.changes, LARGEST)  # its position stays used up
        await redis.set(keys.hosts_revision, "many")
    found = {one.what: one.problem for one in await checking.check(store)}
    assert found.keys() == {keys.changes, keys.hosts_revision}
    assert "takes no more changes" in found[keys.changes]
    assert "no number" in found[keys.hosts_revision]
    mended = await checking.check(store, repair=True)
    assert all(one.outcome.startswith(f"moved to {keys.prefix}damaged:") for one in mended)
    assert await checking.check(store) == []
    written = await Writer(store).edit(PRODUCTION, [SetEnabled(enabled=False)], NOW)
    assert not written.after.enabled
    assert await store.hosts.register(make_host(1)) == 1


@pytest.mark.parametrize("key", ["changes", "environments", "hosts", "hosts:revision"])
async def test_a_key_of_a_wrong_type_is_named_and_moved_aside(store: Store, store_url: str, key: str) -> None:
    await fill(store)
    name = store.connection.keys.prefix + key
    async with inside(store, store_url) as (redis, keys):
        await redis.delete(name)
        await redis.rpush(name, "something else")
    found = await checking.check(store)
    assert found[0].what == name
    assert found[0].problem.startswith("it is of the type list, and must be a ")
    mended = await checking.check(store, repair=True)
    assert mended[0].outcome.startswith(f"moved to {keys.prefix}damaged:{key}:")
    assert await checking.check(store) == []
    written = await Writer(store).edit(PRODUCTION, [SetEnabled(enabled=False)], NOW)
    assert not written.after.enabled


async def test_the_reason_is_given_where_a_document_cannot_be_made_to_count(store: Store, store_url: str) -> None:
    await fill(store)
    async with inside(store, store_url) as (redis, keys):
        written = await redis.get(keys.environment(PRODUCTION))
        await redis.set(keys.environment(PRODUCTION), written.replace(b'{"id"', b'{"shiny":1,"id"'))
        await redis.set(keys.environment(STAGING), written)
    outcomes = {one.what: one.outcome for one in await checking.check(store, repair=True)}
    assert "shiny" in outcomes[f"environment {PRODUCTION}"]
    assert "says that it is 'production'" in outcomes[f"environment {STAGING}"]


STRANGE = [b"", b"UPPER/../evil", b"two\nlines", b"\xff\xfe", b"y" * 100_000]


@pytest.mark.parametrize("name", STRANGE, ids=lambda name: repr(name[:20]))
async def test_what_has_no_environments_id_is_named_and_moved_aside(store: Store, store_url: str, name: bytes) -> None:
    """The API cannot name it, so it could neither be replaced nor be deleted."""
    await fill(store)
    async with inside(store, store_url) as (redis, keys):
        before = await redis.hgetall(keys.environments)
        await redis.hset(keys.environments, name, "3 digest -")
        await redis.set(keys.environment("").encode() + name, "a document")
        found = await checking.check(store)
        assert [one.problem for one in found] == ["no environment can have this id"] * 2
        assert all("'--repair'" in one.outcome and len(one.what) < 200 for one in found)
        mended = await checking.check(store, repair=True)
        asides = [one.outcome.removeprefix("moved to ") for one in mended]
        assert await redis.hgetall(asides[0]) == {name: b"3 digest -"}
        assert await redis.get(asides[1]) == b"a document"
        assert await redis.hgetall(keys.environments) == before
    assert await checking.check(store) == []


@pytest.mark.parametrize("owner", ["ghost", "deleted", STAGING, ""])
async def test_a_network_of_a_wrong_owner_is_named_and_given_back(store: Store, store_url: str, owner: str) -> None:
    """By an environment that is not in it, that never was, or by nobody: until then no change is possible."""
    await fill(store)
    deleted = build("deleted", 3)
    await store.environments.commit(deleted, 0)
    await store.environments.delete(deleted)
    network = str(BEFORE.network)
    async with inside(store, store_url) as (redis, keys):
        if owner:
            await redis.hset(keys.networks, network, owner)
            with pytest.raises(NetworkLost, match=f"'production' is damaged .* belongs or belonged to '{owner}'"):
                await Writer(store).edit(PRODUCTION, [SetEnabled(enabled=False)], NOW)
        else:
            await redis.hdel(keys.networks, network)
        [finding] = await checking.check(store)
        assert finding.what == f"network {network}"
        assert finding.outcome == "'--repair' gives it to 'production'"
        [mended] = await checking.check(store, repair=True)
        assert mended.outcome == "it belongs to 'production' now"
        assert await checking.check(store) == []
        assert (await redis.hget(keys.networks, network)).decode() == PRODUCTION
    assert (await Writer(store).edit(PRODUCTION, [SetEnabled(enabled=False)], NOW)).after.revision == 8


async def test_the_list_of_networks_is_made_anew(store: Store, store_url: str) -> None:
    await fill(store)
    async with inside(store, store_url) as (redis, keys):
        before = await redis.hgetall(keys.networks)
        await redis.delete(keys.networks)
        await redis.rpush(keys.networks, "something else")
        assert [one.what for one in await checking.check(store)] == [keys.networks]
        assert len(await checking.check(store, repair=True)) == 3
        assert await redis.hgetall(keys.networks) == before


async def test_two_environments_in_one_network_are_for_a_person_to_decide(store: Store, store_url: str) -> None:
    await fill(store)
    intruder = build("intruder", 3)
    await store.environments.commit(intruder, 0)
    moved = replace(toggled(intruder), network=BEFORE.network)
    async with inside(store, store_url) as (redis, keys):
        await redis.hset(keys.networks, str(BEFORE.network), "intruder")
        await store.environments.commit(moved, intruder.revision)
        await redis.hset(keys.networks, str(BEFORE.network), PRODUCTION)
    for repair in (False, True):
        [finding] = await checking.check(store, repair=repair)
        assert "'production', which is in it too" in finding.problem
        assert "delete, or mend, one of 'intruder' and 'production'" in finding.outcome
    await Writer(store).delete(moved.id, lambda _: None)  # though its network is another's
    assert await checking.check(store) == []
    assert (await store.environments.read(PRODUCTION))[1] == BEFORE


async def test_quotas_and_tokens_that_cannot_be_read_are_named_and_moved_aside(store: Store, store_url: str) -> None:
    await store.quotas.set(STAGING, {"services": 5})
    await store.tokens.add("a" * 64, Token("t1", STAGING, "deploys", NOW))
    async with inside(store, store_url) as (redis, keys):
        await redis.hset(keys.quotas, PRODUCTION, b"garbage")
        await redis.hset(keys.tokens, b"\xff", b"{}")
        wanted = {
            f"{keys.quotas} {PRODUCTION}": "it cannot be read, so the default quota counts",
            f"{keys.tokens} \\xff": "it cannot be read, so it gives access to nothing",
        }
        assert {one.what: one.problem for one in await checking.check(store)} == wanted
        mended = await checking.check(store, repair=True)
        assert {one.what for one in mended} == wanted.keys()
        for one, line in zip(mended, ({PRODUCTION.encode(): b"garbage"}, {b"\xff": b"{}"}), strict=True):
            assert await redis.hgetall(one.outcome.removeprefix("moved to ")) == line
    assert await checking.check(store) == []
    assert await store.quotas.find(STAGING) == {"services": 5}
    assert await store.tokens.find("a" * 64)
