"""A whole resolver that forwards, and what a client gets from it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import dns.message

from resolver.forward.forwarder import Forwarder
from resolver.forward.upstream import Health, Routes, Upstream
from resolver.server import Resolver
from resolver.wire.messages import Transport
from tests import worlds
from tests.resolver.forward.liar import ZONE
from tests.resolver.messages import read
from tests.resolver.servers import ask_tcp, ask_udp, serving
from tests.waiting import waited_for_processor
from zones.edits import PutRecord, SetIsolated, apply
from zones.model import RecordSet
from zones.zone import Zone

WITHIN = 1.0  # seconds, for every client

ISOLATED_SOURCE = "127.0.0.9"


def world() -> list[Zone]:
    """An environment with aliases that lead outside, and one that has the same of another kind."""
    aliases = {"shop": f"small.{ZONE}", "far": f"chain.{ZONE}", "gone": f"nxdomain.{ZONE}", "down": f"servfail.{ZONE}"}
    records = [PutRecord(name, "CNAME", RecordSet(60, (target,))) for name, target in aliases.items()]
    twice = PutRecord("twice", "CNAME", RecordSet(60, ("shop.railway.internal.",)))
    home = PutRecord("home", "CNAME", RecordSet(60, ("nas.local.",)))
    return [
        worlds.compiled(worlds.build("production", 0x5B1E90C4, *records, twice, home)),
        worlds.compiled(worlds.build("staging", 0x00AB00CD, *records)),
    ]


def isolated(zone: Zone) -> Zone:
    """``zone``'s environment, isolated."""
    return worlds.compiled(apply(zone.environment, [SetIsolated(True)], worlds.NOW))


@dataclass(slots=True)
class Clock:
    """A clock that stands until it is moved; seconds."""

    now: float = 10_000.0

    def __call__(self) -> float:
        return self.now


@dataclass(slots=True)
class Client:
    """Asks ``resolver``; every answer must be there within a second."""

    resolver: Resolver
    forwarder: Forwarder
    lasted: float = 0.0
    """Seconds of the last question."""
    took: float = 0.0
    """The same without those in which other processes had the processor."""

    def health(self, liar: object) -> Health:
        """What the forwarder thinks of ``liar``."""
        return self.forwarder.pool.health[Upstream.parse(str(liar))]

    async def send(
        self, packet: bytes, transport: Transport = Transport.UDP, source: str = worlds.PRODUCTION_SOURCE
    ) -> bytes:
        loop = asyncio.get_running_loop()
        started, waited = loop.time(), waited_for_processor()
        ask = ask_udp if transport is Transport.UDP else ask_tcp
        answer = await ask(self.resolver.addresses[0], packet, source)
        self.lasted = loop.time() - started
        self.took = self.lasted - (waited_for_processor() - waited)
        assert self.took < WITHIN
        return answer

    async def ask(
        self,
        name: str,
        rtype: str = "A",
        *,
        transport: Transport = Transport.UDP,
        source: str = worlds.PRODUCTION_SOURCE,
        payload: int | None = 1232,
        dnssec_ok: bool = False,
        flags: int = 0,
    ) -> dns.message.Message:
        """The answer for ``name``, which is the liar's unless it is absolute."""
        full = name if name.endswith(".") else f"{name}.{ZONE}"
        query = dns.message.make_query(full, rtype, use_edns=False)
        if payload is not None:
            query.use_edns(0, payload=payload)
            query.want_dnssec(dnssec_ok)
        query.flags |= flags
        answer = read(await self.send(query.to_wire(), transport, source))
        assert answer.id == query.id
        assert answer.question == query.question
        assert answer.edns == (-1 if payload is None else 0)
        return answer


@asynccontextmanager
async def forwarding(*upstreams: object, zones: list[Zone] | None = None, **options: object) -> AsyncIterator[Client]:
    """A resolver that forwards to ``upstreams``, each as `Routes.parse` takes it. ``options`` are the forwarder's."""
    forwarder = Forwarder(Routes.parse(tuple(map(str, upstreams))), worlds.PLATFORM, **options)  # type: ignore[arg-type]
    async with serving(*(zones or world()), forwarder=forwarder) as resolver:
        yield Client(resolver, forwarder)
