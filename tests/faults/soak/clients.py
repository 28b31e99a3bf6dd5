"""The clients: they query names that exist, names that do not, and names of the outside; others watch and scrape."""

from __future__ import annotations

import asyncio
import json
import random
import secrets
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import dns.asyncquery
import dns.exception
import dns.message
import dns.rcode
import dns.rdatatype
from aiohttp import ClientError, ClientSession

from tests.faults.soak.installations import Installation
from tests.faults.soak.judge import APEX, History, Observation, Outcome, now
from tests.faults.soak.upstream import address_of
from tests.faults.soak.writer import INSTANCES, RECORDS, SERVICES
from tests.waiting import scaled

TIMEOUT = scaled(5.0)  # seconds until a query counts as unanswered
OVER_TCP = 0.1  # of all queries
OUTSIDE = 250  # names of the outside that are asked: so few that the cache of each environment soon holds them all
SCRAPE_EVERY = 5.0  # seconds
WATCHED_FOR = 20.0  # seconds until someone who watches the query log goes
EXPLAIN_EVERY = 1.0  # seconds


class Client:
    """Asks ``server`` as a client of the environment of ``history``, ``rate`` times a second."""

    def __init__(self, server: tuple[str, int], history: History, rate: float, report: Callable[[str], None]) -> None:
        self._server = server
        self._history = history
        self._rate = rate
        self._report = report
        self._random = random.Random(f"client of {history.id}")
        self.outside: Counter[str] = Counter()  # names of the outside: right, wrong, failed
        self.unanswered = 0

    async def run(self) -> None:
        """Asks until cancelled."""
        while True:
            await asyncio.sleep(self._random.expovariate(self._rate))
            if self._random.random() < 0.25:
                await self._ask_outside()
            else:
                await self._ask_inside()

    async def _ask_inside(self) -> None:
        label, rtype = self._choose()
        sent = now()
        outcome = await self._ask(f"{label}.{APEX}", rtype)
        if outcome is None:
            self._report(f"{self._history.id}: {label} {rtype} was not answered within {TIMEOUT:g} s")
            self.unanswered += 1
            return
        self._history.waiting.append(Observation(label, rtype, sent, now(), time.time(), outcome))

    def _choose(self) -> tuple[str, str]:
        chance = self._random.random()
        if chance < 0.1:
            return f"nosuch-{secrets.token_hex(4)}", "AAAA"
        if chance < 0.3:
            return self._random.choice(RECORDS), self._random.choice(("A", "AAAA"))
        if chance < 0.5:
            return f"{self._random.choice(INSTANCES)}.{self._random.choice(SERVICES)}", "AAAA"
        return self._random.choice(SERVICES), self._random.choice(("AAAA", "AAAA", "AAAA", "A"))

    async def _ask_outside(self) -> None:
        number = self._random.randrange(OUTSIDE)
        name = f"{'big' if number % 7 == 0 else 'n'}{number}.example.com."
        outcome = await self._ask(name, "A")
        if outcome == ("NOERROR", frozenset({address_of(name)})):
            self.outside["right"] += 1
        else:
            kind = "wrong" if outcome and outcome[0] == "NOERROR" else "failed"
            self.outside[kind] += 1
            self._report(f"{self._history.id}: {name} was answered with {outcome}")

    async def _ask(self, name: str, rtype: str) -> Outcome | None:
        query = dns.message.make_query(name, rtype)
        host, port = self._server
        try:
            if self._random.random() < OVER_TCP:
                reply = await dns.asyncquery.tcp(query, host, TIMEOUT, port, source=self._history.source)
            else:
                reply, _ = await dns.asyncquery.udp_with_fallback(
                    query, host, TIMEOUT, port, source=self._history.source
                )
        except (dns.exception.DNSException, OSError, EOFError):
            return None
        values = (item.to_text() for rrset in reply.answer for item in rrset)
        return dns.rcode.to_text(reply.rcode()), frozenset(values)


async def scrape(session: ClientSession, installation: Installation) -> None:
    """Reads metrics and readiness, as Prometheus and a load balancer do."""
    while True:
        for url in installation.operations:
            for path in ("/metrics", "/readyz?verbose", "/livez"):
                with suppress(ClientError, TimeoutError):
                    async with session.get(url + path) as reply:
                        await reply.read()
        await asyncio.sleep(SCRAPE_EVERY)


async def watch(path: Path, wanted: dict[str, Any], counts: Counter[str]) -> None:
    """Watches the query log for a while, goes without a word, and comes again. Every other one reads nothing."""
    turn = 0
    while True:
        turn += 1
        try:
            reader, writer = await asyncio.open_unix_connection(str(path))
        except OSError:
            await asyncio.sleep(1)
            continue
        with suppress(OSError, TimeoutError):
            writer.write(json.dumps(wanted).encode() + b"\n")
            async with asyncio.timeout(WATCHED_FOR):
                while turn % 2 and await reader.readline():
                    counts["lines of the query log"] += 1
                await asyncio.sleep(WATCHED_FOR)
        writer.transport.abort()


async def explain(session: ClientSession, url: str, history: History, counts: Counter[str]) -> None:
    """Has the API explain answers."""
    while True:
        await asyncio.sleep(EXPLAIN_EVERY)
        query = {"environment": history.id, "name": f"{random.choice(SERVICES)}.{APEX}", "type": "AAAA"}
        with suppress(ClientError, TimeoutError):
            async with session.get(f"{url}/v1/explain", params=query) as reply:
                await reply.read()
                counts[f"explanations with status {reply.status}"] += 1


async def churn(session: ClientSession, url: str, id_: str, counts: Counter[str]) -> None:
    """Makes an environment and deletes it, again and again."""
    path = f"{url}/v1/environments/{id_}"
    while True:
        for method, end, body in (("PUT", "", {}), ("PUT", "/services/s0", {}), ("DELETE", "", None)):
            await asyncio.sleep(2)
            with suppress(ClientError, TimeoutError):
                async with session.request(method, path + end, json=body) as reply:
                    await reply.read()
                    counts[f"environments made or deleted, status {reply.status}"] += 1
