"""How replies fit: limits, truncation at whole records, choices of many, compression, and the guards around dnslib."""

from __future__ import annotations

import socket

import dns.flags
import dns.message
import pytest

from resolver.counts import QueryCounts
from resolver.responder import MOST_ROTATED, Responder
from resolver.scope import ScopeState, ScopeTable
from resolver.wire.header import Flag
from resolver.wire.messages import (
    Edns,
    ErrorCode,
    ExtendedError,
    QueryHeader,
    Rcode,
    Reply,
    Transport,
)
from resolver.wire.packer import MAXIMUM_TCP, pack, size_limit
from tests import worlds
from tests.resolver.messages import answers, query, read
from zones.addresses import Address
from zones.edits import PutInstance, PutService
from zones.model import Port
from zones.names import Name
from zones.records import RRset, RRType, Text

SCOPES = ScopeTable(worlds.PLATFORM, worlds.BINDINGS)
SCOPES.publish(worlds.compiled(worlds.production()))
SCOPES.is_loaded = True
RESPONDER = Responder(SCOPES, QueryCounts())


def ask(packet: bytes, transport: Transport = Transport.UDP) -> bytes:
    state = SCOPES.scope_of(socket.inet_aton(worlds.PRODUCTION_SOURCE), worlds.ASKED).state
    reply = RESPONDER.respond(packet, state, transport)
    assert isinstance(reply, bytes)
    return reply


@pytest.mark.parametrize(
    ("payload", "limit"), [(None, 512), (0, 512), (511, 512), (513, 513), (1232, 1232), (1233, 1232), (65535, 1232)]
)
def test_a_udp_reply_is_no_larger_than_both_sides_take(payload: int | None, limit: int) -> None:
    reply = ask(query("long", "TXT", payload=payload))
    assert limit - 250 < len(reply) <= limit
    assert read(reply).flags & dns.flags.TC


def test_truncation_keeps_whole_records_the_question_and_opt() -> None:
    reply = read(ask(query("long", "TXT", payload=512)))
    assert reply.flags & dns.flags.TC
    assert len(answers(reply)) == 2
    assert reply.question
    assert reply.edns == 0


def test_nothing_is_truncated_over_tcp() -> None:
    reply = read(ask(query("long", "TXT"), Transport.TCP))
    assert not reply.flags & dns.flags.TC
    assert len(answers(reply)) == 12


@pytest.mark.parametrize(("payload", "count"), [(None, 16), (512, 15), (1232, 41), (4096, 41)])
def test_some_of_many_instances_are_a_whole_answer(payload: int | None, count: int) -> None:
    """Else each client of a large service would have to come again over TCP, which some cannot."""
    reply = read(ask(query("crowd", "AAAA", payload=payload)))
    assert not reply.flags & dns.flags.TC
    assert len(answers(reply)) == pytest.approx(count, abs=1)


def test_rotations_reach_every_instance_and_each_comes_first() -> None:
    packet = query("crowd", "AAAA")
    seen = [answers(read(ask(packet))) for _ in range(60)]
    assert len({addresses[0] for addresses in seen}) == 60
    assert len({address for addresses in seen for address in addresses}) == 60
    assert [answers(read(ask(packet))) for _ in range(60)] == seen


@pytest.mark.parametrize("payload", [None, 1232])
def test_ports_come_in_parts_and_rotate_as_addresses_do(payload: int | None) -> None:
    """HAProxy, which takes what fits and never asks over TCP, saw the same 9 of 30 for ever."""
    packet = query("_http._tcp.crowd", "SRV", payload=payload)
    replies = [read(ask(packet)) for _ in range(60)]
    assert not any(reply.flags & dns.flags.TC for reply in replies)
    assert len({answers(reply)[0] for reply in replies}) == 60
    assert all(8 < len(answers(reply)) < 60 for reply in replies)
    assert len(answers(read(ask(packet, Transport.TCP)))) == 60


HUGE = 3000  # instances


@pytest.fixture(scope="module")
def responder() -> tuple[Responder, ScopeState]:
    """One that has a service of so many instances, and the scope of the service's clients."""
    scopes = ScopeTable(worlds.PLATFORM, worlds.BINDINGS)
    instances = [PutInstance("huge", f"instance-{number:04d}") for number in range(HUGE)]
    service = PutService("huge", ports=(Port("http", 80),))
    scopes.publish(worlds.compiled(worlds.build(worlds.PRODUCTION, 0x5B1E90C4, service, *instances)))
    scopes.is_loaded = True
    state = scopes.scope_of(socket.inet_aton(worlds.PRODUCTION_SOURCE), worlds.ASKED).state
    return Responder(scopes, QueryCounts()), state


class TestMoreThanTcpHolds:
    """A message has at most 65,535 octets. Whoever asks over TCP gets as much as fits: TC would lead nowhere."""

    @pytest.mark.parametrize(
        ("name", "rtype"),
        [("huge", "AAAA"), ("all.huge", "AAAA"), ("_http._tcp.huge", "SRV"), ("_instances.huge", "TXT")],
    )
    def test_there_is_no_tc(self, name: str, rtype: str, responder: tuple[Responder, ScopeState]) -> None:
        reply = responder[0].respond(query(name, rtype, payload=1232), responder[1], Transport.TCP)
        assert isinstance(reply, bytes)
        assert 65_000 < len(reply) <= 65_535
        message = read(reply)
        assert not message.flags & dns.flags.TC
        assert message.edns == 0
        assert 500 < len(answers(message)) < HUGE

    def test_rotations_reach_all_of_it(self, responder: tuple[Responder, ScopeState]) -> None:
        seen: set[str] = set()
        for _ in range(2 * MOST_ROTATED // 65_535):  # also those that are no longer kept
            reply = responder[0].respond(query("all.huge"), responder[1], Transport.TCP)
            seen |= set(answers(read(reply)))
        assert len(seen) == HUGE


def test_a_set_asked_for_as_a_whole_is_truncated_as_one() -> None:
    message = read(ask(query("all.api", "AAAA")))
    assert not message.flags & dns.flags.TC
    crowd = read(ask(query("all.crowd", "AAAA")))
    assert crowd.flags & dns.flags.TC


def test_the_question_comes_back_in_its_own_letters_and_all_else_points_to_it() -> None:
    packet = query("aPi.RaIlWaY.iNtErNaL.", "AAAA")
    reply = ask(packet)
    question = packet[12:]
    assert reply[12 : 12 + len(question)] == question
    # Two records of 28 octets each: a pointer to the question (RFC 1035 §4.1.4), and nothing spelt out again.
    assert len(reply) == len(packet) + 2 * 28
    assert reply[len(packet) : len(packet) + 2] == b"\xc0\x0c"


def test_a_type_that_looks_like_a_capital_letter_is_left_alone() -> None:
    packet = query("api", "HTTPS")  # type 65 is the octet of 'A'
    assert ask(packet)[12 : len(packet)] == packet[12:]


def test_a_label_need_not_be_text() -> None:
    packet = bytearray(query("xxx", "AAAA"))
    packet[13:16] = b"\xff\0."
    reply = ask(bytes(packet))
    assert reply[3] & 0xF == Rcode.NXDOMAIN
    assert reply[12 : len(packet)] == packet[12:]


def test_no_pointer_goes_beyond_what_fourteen_bits_can_say() -> None:
    """dnslib alone writes such a pointer wrongly; a reply over TCP can be that long."""
    owner = Name.parse("big.railway.internal")
    texts = RRset(owner, RRType.TXT, 5, tuple(Text.of(f"{number:04d}" + "x" * 200) for number in range(100)))
    far = Name.parse("far.example.org")
    late = [RRset(far, RRType.AAAA, 5, (Address(bytes(16)),)), RRset(far, RRType.TXT, 5, (Text.of("t"),))]
    question = owner + b"\0\x10\0\1"
    packed = pack(QueryHeader(1, 0, question), Reply(Rcode.NOERROR, (texts, *late)), MAXIMUM_TCP)
    assert len(packed) > 0x4000
    message = dns.message.from_wire(packed)
    assert [rrset.name.to_text() for rrset in message.answer][-2:] == ["far.example.org."] * 2


def test_a_reply_over_tcp_has_as_many_records_as_a_length_can_say() -> None:
    owner = Name.parse("all.crowd.railway.internal")
    rrset = RRset(owner, RRType.AAAA, 5, tuple(Address(number.to_bytes(16, "big")) for number in range(5000)))
    packed = pack(QueryHeader(1, 0, owner + b"\0\x1c\0\1"), Reply(Rcode.NOERROR, (rrset,)), MAXIMUM_TCP)
    assert 65_500 < len(packed) <= 65_535
    dns.message.from_wire(packed)


def test_the_longest_name_with_an_error_and_an_soa_fits_the_smallest_reply() -> None:
    labels = b"".join(b"\x3f" + b"x" * 63 for _ in range(3)) + b"\x2b" + b"y" * 43
    name = Name(labels + worlds.PLATFORM.apex)
    assert len(name) == 254
    soa = worlds.compiled(worlds.production()).soa(worlds.PLATFORM.apex)
    error = ExtendedError(ErrorCode.OTHER, "é" * 200)
    header = QueryHeader(1, Flag.RD, name + b"\0\x1c\0\1", Edns(512, 0, False))
    message = dns.message.from_wire(pack(header, Reply(Rcode.NXDOMAIN, (), (soa,), True, error), 512))
    assert not message.flags & dns.flags.TC
    assert len(message.authority) == 1


def chain_of(count: int) -> Reply:
    """A reply of ``count`` CNAMEs, each of a long name, and an address at their end."""
    names = [Name.parse(f"{'x' * 50}{number}.example.org") for number in range(count + 1)]
    aliases = [RRset(name, RRType.CNAME, 60 - number, (names[number + 1],)) for number, name in enumerate(names[:-1])]
    return Reply(Rcode.NOERROR, (*aliases, RRset(names[-1], RRType.AAAA, 60, (Address(bytes(16)),))))


@pytest.mark.parametrize("transport", Transport)
def test_a_chain_too_long_for_a_client_without_edns_leads_to_its_end_at_once(transport: Transport) -> None:
    reply = chain_of(8)
    header = QueryHeader(1, Flag.RD, reply.answer[0].name + b"\0\x1c\0\1")
    message = read(pack(header, reply, size_limit(header, transport)))
    assert not message.flags & dns.flags.TC
    alias, address = message.answer
    assert (alias.name, alias[0].target) == (message.question[0].name, address.name)
    assert alias.ttl == 60 - 7  # the least of those that it stands for
    assert len(message.to_wire()) <= 512


@pytest.mark.parametrize(("count", "payload"), [(2, None), (8, 1232)])
def test_a_chain_that_fits_is_whole(count: int, payload: int | None) -> None:
    reply = chain_of(count)
    edns = Edns(payload, 0, False) if payload else None
    header = QueryHeader(1, Flag.RD, reply.answer[0].name + b"\0\x1c\0\1", edns)
    message = read(pack(header, reply, size_limit(header, Transport.UDP)))
    assert len(message.answer) == count + 1
