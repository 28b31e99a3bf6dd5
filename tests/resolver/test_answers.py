"""The table of cases, through the responder alone, over UDP and over TCP."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import pytest
import pytest_asyncio

from resolver.counts import QueryCounts
from resolver.responder import Responder
from resolver.scope import ScopeTable
from resolver.server import Resolver
from resolver.wire.messages import Transport
from tests import worlds
from tests.resolver.cases import CASES, Case
from tests.resolver.messages import answers, error_text, query, read
from tests.resolver.servers import ask_tcp, ask_udp, serving


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[Resolver]:
    async with serving(worlds.compiled(worlds.production()), worlds.compiled(worlds.staging())) as resolver:
        yield resolver


@pytest.fixture(scope="module")
def scopes() -> ScopeTable:
    scopes = ScopeTable(worlds.PLATFORM, worlds.BINDINGS)
    scopes.publish(worlds.compiled(worlds.production()))
    scopes.publish(worlds.compiled(worlds.staging()))
    scopes.is_loaded = True
    return scopes


@pytest.mark.parametrize("case", CASES, ids=str)
def test_it_is_answered(case: Case, scopes: ScopeTable) -> None:
    state = scopes.scope_of(socket.inet_aton(case.source), worlds.ASKED).state
    for payload in (None, 4096):
        packet = query(case.name, case.rtype, payload=payload)
        reply = Responder(scopes, QueryCounts()).respond(packet, state, Transport.TCP)
        check(case, packet, read(reply), truncation=False)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("case", CASES, ids=str)
async def test_it_is_answered_over_udp(case: Case, server: Resolver) -> None:
    packet = query(case.name, case.rtype, payload=1232)
    check(case, packet, read(await ask_udp(server.addresses[0], packet, case.source)), truncation=True)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("case", CASES, ids=str)
async def test_it_is_answered_over_tcp(case: Case, server: Resolver) -> None:
    packet = query(case.name, case.rtype, payload=1232)
    check(case, packet, read(await ask_tcp(server.addresses[0], packet, case.source)), truncation=False)


def check(case: Case, packet: bytes, reply: dns.message.Message, *, truncation: bool) -> None:
    assert dns.rcode.to_text(reply.rcode()) == case.rcode
    assert reply.question == dns.message.from_wire(packet).question
    assert not reply.flags & dns.flags.TC or truncation
    lines = answers(reply)
    assert sorted(lines) == sorted(case.answer)
    aliases = [line for line in case.answer if " CNAME " in line]
    assert lines[: len(aliases)] == aliases
    assert [(rrset.name.to_text(), rrset.rdtype) for rrset in reply.authority] == (
        [(case.soa, dns.rdatatype.SOA)] if case.soa else []
    )
    assert reply.additional == []
    if case.rcode in ("NOERROR", "NXDOMAIN"):
        assert reply.flags & dns.flags.AA
    if case.error and reply.edns >= 0:
        assert case.error in error_text(reply)
