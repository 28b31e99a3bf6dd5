"""Failovers by Sentinel, with writes going on and a prober that judges each answer.

Three by default. ``TEST_FAILOVERS=20 .venv/bin/pytest -s tests/faults/test_failover.py`` makes twenty, and prints what
docs/reliability.md reports.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import aiohttp
import dns.asyncquery
import dns.exception
import dns.message
import pytest
import pytest_asyncio

from tests.faults.sentinels import WAYS, SentinelSet
from tests.interlock.processes import Running, interlock, started
from tests.waiting import DEADLINE, scaled, until_true

FAILOVERS = int(os.environ.get("TEST_FAILOVERS") or 3)
# Seconds from the election of a primary until the next commit is answered. It is one to three, and what went wrong was
# half a minute, until the next comparison: in between is room for a machine that is busy.
ANSWERED_WITHIN = scaled(15.0)
WRITE_PAUSE = 0.05  # seconds between two writes
REQUEST_DEADLINE = aiohttp.ClientTimeout(total=15)


@dataclass
class Round:
    """One failover: what was written into an environment of its own, and what was answered."""

    number: int
    acknowledged: dict[int, float] = field(default_factory=dict)  # each write, and when it was acknowledged
    refused: int = 0  # writes that were told that they may not have been made
    answered: set[int] = field(default_factory=set)  # writes that were answered once
    answers: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    is_over: bool = False

    @property
    def environment(self) -> str:
        return f"round-{self.number}"

    @property
    def source(self) -> str:
        """The address of the environment's clients."""
        return f"127.0.1.{self.number}"


@dataclass
class Platform:
    """A resolver and an admin API, as processes of their own, on the store that the Sentinels name."""

    sentinels: SentinelSet
    resolver: Running
    admin: Running
    token: str
    session: aiohttp.ClientSession

    @property
    def api(self) -> str:
        return f"http://{_listening(self.admin, 'http_listening', 'address')}/v1/environments"

    @property
    def port(self) -> int:
        return int(_listening(self.resolver, "dns_listening", "addresses").rpartition(":")[2].rstrip("]'"))

    async def write(self, path: str, body: object) -> bool:
        """Whether a PUT was acknowledged."""
        with suppress(aiohttp.ClientError, TimeoutError):
            async with self.session.put(f"{self.api}/{path}", json=body) as response:
                assert response.status in {200, 201, 409, 503}, await response.text()
                return response.status in {200, 201}
        return False

    async def read(self, url: str) -> Any:
        """What is at ``url``; None where it cannot be read now."""
        with suppress(aiohttp.ClientError, TimeoutError):
            async with self.session.get(url) as response:
                assert response.status in {200, 503}, await response.text()
                return await response.json() if response.status == 200 else None
        return None

    async def ask(self, one: Round, number: int) -> str:
        """What a client of the round's environment is answered about write ``number``; empty where nothing came."""
        query = dns.message.make_query(f"w{number}.railway.internal", "TXT")
        try:
            reply = await dns.asyncquery.udp(query, "127.0.0.1", 3.0, self.port, source=one.source)
        except (dns.exception.DNSException, OSError):
            return ""
        values = [str(record).strip('"') for rrset in reply.answer for record in rrset]
        return values[0] if values else dns.rcode.to_text(reply.rcode())


@pytest_asyncio.fixture
async def platform(sentinel_binary: str, tmp_path: Path) -> AsyncIterator[Platform]:
    sentinels = SentinelSet(sentinel_binary, tmp_path)
    bindings = [f"--bind=127.0.1.{number}=round-{number}" for number in range(1, FAILOVERS + 1)]
    with ExitStack() as stack:
        stack.callback(sentinels.kill)
        await sentinels.start()
        store = ("--redis", sentinels.url)
        resolver = stack.enter_context(started(*interlock(
            "resolver", *store, "--state-dir", str(tmp_path / "r"), "--dns-listen", "127.0.0.1:0", "--ops-listen", "",
            *bindings, "--upstream", "none",
        )))  # fmt: skip
        admin = stack.enter_context(started(*interlock(
            "admin", *store, "--state-dir", str(tmp_path / "a"), "--api-listen", "127.0.0.1:0", "--redis-wait", "all",
        )))  # fmt: skip
        deadline = time.monotonic() + 2 * DEADLINE
        while not all('"event": "ready"' in one.errors or '"event":"ready"' in one.errors for one in (resolver, admin)):
            assert time.monotonic() < deadline, (resolver.errors, admin.errors)
            await asyncio.sleep(0.05)
        token = (tmp_path / "a" / "admin.token").read_text().strip()
        headers = {"Authorization": f"Bearer {token}"}
        async with aiohttp.ClientSession(headers=headers, timeout=REQUEST_DEADLINE) as session:
            yield Platform(sentinels, resolver, admin, token, session)


@pytest.mark.timeout(scaled(120 + 60 * FAILOVERS))
async def test_no_acknowledged_write_is_lost_and_the_next_one_is_answered_soon(platform: Platform) -> None:
    rounds, delays, lost = [], [], []
    for number, way in enumerate(islice(cycle(WAYS), FAILOVERS), 1):
        one = Round(number)
        rounds.append(one)
        # Where the machine is busy, a replica may need longer to confirm it than a write waits.
        await until_true(partial(platform.write, one.environment, {}), "the environment is not made")
        tasks = [asyncio.create_task(writing(platform, one)), asyncio.create_task(probing(platform, one))]
        try:
            await reached(one, 10)
            elected = await platform.sentinels.fail_over(way)
            delays.append(await next_answer(platform, one, elected))
            await reached(one, len(one.acknowledged) + 10)
            await platform.sentinels.recover()
            await reached(one, len(one.acknowledged) + 10)
        finally:
            # Not cancelled: a cancellation can get lost in asyncio's timeouts before Python 3.12.
            one.is_over = True
            await asyncio.gather(*tasks)
        lost += await lost_of(platform, one)
        print(
            f"{number:2} {way:8} acknowledged {len(one.acknowledged)}, refused {one.refused}, lost {len(lost)},"
            f" answers {dict(one.answers)}, wrong {one.wrong}, next answer after {delays[-1]:.2f} s"
        )
    print(f"rolled back: {platform.resolver.errors.count('store_rolled_back')}; delays: {sorted(delays)}")
    assert not lost
    assert not [wrong for one in rounds for wrong in one.wrong]
    assert max(delays) < ANSWERED_WITHIN
    assert "Traceback" not in platform.resolver.errors + platform.admin.errors


async def writing(platform: Platform, one: Round) -> None:
    """Writes one record after the other."""
    number = 0
    while not one.is_over:
        number += 1
        path = f"{one.environment}/records/w{number}/TXT"
        if await platform.write(path, {"ttl": 5, "values": [f"v{number}"]}):
            one.acknowledged[number] = time.monotonic()
        else:
            one.refused += 1
        await asyncio.sleep(WRITE_PAUSE)


async def probing(platform: Platform, one: Round) -> None:
    """Asks for records that were acknowledged, and judges each answer: one that was answered stays answered."""
    while not one.is_over:
        if number := random.choice(list(one.acknowledged) or [0]):
            was_answered = number in one.answered
            told = await platform.ask(one, number)
            if told == f"v{number}":
                one.answered.add(number)
                one.answers["right"] += 1
            elif told == "":
                one.answers["none"] += 1
            elif (told == "NXDOMAIN" and not was_answered) or (told == "REFUSED" and not one.answered):
                one.answers["late"] += 1
            else:
                one.wrong.append(f"{one.environment}: w{number} is {told}")
        await asyncio.sleep(0.002)


async def next_answer(platform: Platform, one: Round, elected: float) -> float:
    """Seconds from ``elected`` until a write that was acknowledged after it is answered."""
    deadline = time.monotonic() + 3 * DEADLINE
    while True:
        for number in [number for number, at in one.acknowledged.items() if at > elected][:1]:
            if await platform.ask(one, number) == f"v{number}":
                return time.monotonic() - elected
        assert time.monotonic() < deadline, (
            f"stuck: {one} {platform.resolver.errors[-3000:]} {platform.admin.errors[-3000:]}"
        )
        await asyncio.sleep(0.01)


async def reached(one: Round, number: int) -> None:
    deadline = time.monotonic() + 3 * DEADLINE
    while len(one.acknowledged) < number:
        assert time.monotonic() < deadline, f"no write is acknowledged any more: {one}"
        await asyncio.sleep(0.05)


async def lost_of(platform: Platform, one: Round) -> list[str]:
    """The writes that were acknowledged, and that the store does not hold."""
    held: set[int] = set()
    url: str | None = f"{platform.api}/{one.environment}/records?limit=1000"
    while url:
        body = await until_true(partial(platform.read, url), "the records cannot be read")
        held |= {int(re.sub(r"\D", "", record["name"])) for record in body["records"]}
        url = f"{platform.api}/{one.environment}/records?limit=1000&after={body['next']}" if body["next"] else None
    return [f"{one.environment}: w{number}" for number in one.acknowledged.keys() - held]


def _listening(process: Running, event: str, name: str) -> str:
    lines = [json.loads(line) for line in process.errors.rpartition("\n")[0].splitlines()]
    return str(next(line for line in lines if line["event"] == event)[name])
