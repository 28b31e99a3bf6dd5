"""Header and EDNS conformance, after ISC's compliance tests (RFC 8906 §8), as data: octets in, header and OPT out."""

from __future__ import annotations

from dataclasses import dataclass
from struct import pack, unpack_from

import pytest

from resolver.counts import QueryCounts
from resolver.responder import Responder
from resolver.scope import ScopeTable
from resolver.wire.messages import Transport
from tests import worlds

APEX = b"\7railway\10internal\0"
SOA_IN = pack("!HH", 6, 1)
QR, AA, TC, RD, RA, Z, AD, CD = 0x8000, 0x400, 0x200, 0x100, 0x80, 0x40, 0x20, 0x10
NOERROR, FORMERR, NOTIMP, REFUSED, BADVERS = 0, 1, 4, 5, 16
ID = 0xBEEF


def message(
    flags: int = 0,
    question: bytes = APEX + SOA_IN,
    additional: bytes = b"",
    counts: tuple[int, int, int, int] | None = None,
) -> bytes:
    counts = counts or (1 if question else 0, 0, 0, 1 if additional else 0)
    return pack("!HHHHHH", ID, flags, *counts) + question + additional


def opt(payload: int = 4096, version: int = 0, flags: int = 0, options: bytes = b"") -> bytes:
    return b"\0" + pack("!HHBBHH", 41, payload, 0, version, flags, len(options)) + options


def option(code: int, data: bytes = b"") -> bytes:
    return pack("!HH", code, len(data)) + data


NSID, ECS, COOKIE, EXPIRE = option(3), option(8, bytes([0, 1, 0, 0])), option(10, b"12345678"), option(9)
UNKNOWN = option(100)


@dataclass(frozen=True, slots=True)
class Case:
    name: str
    packet: bytes
    rcode: int = NOERROR
    edns: bool = False
    dnssec_ok: bool = False
    answers: int = 1
    echoes_question: bool = True
    flags: int = 0
    """RD where it must be copied; QR and RA are always there, AA with an answer, and no other flag ever is."""

    def __str__(self) -> str:
        return self.name


CASES = (
    Case("plain", message()),
    Case("aa set", message(AA)),
    Case("ad set", message(AD)),
    Case("cd set", message(CD)),
    Case("ra set", message(RA)),
    Case("rd set", message(RD), flags=RD),
    Case("tc set", message(TC)),
    Case("z set", message(Z)),
    Case("rcode set", message(NOTIMP)),
    Case("opcode 15", message(15 << 11), NOTIMP, answers=0, echoes_question=False),
    Case("opcode 15 with edns", message(15 << 11, additional=opt()), NOTIMP, answers=0, echoes_question=False),
    Case("iquery", message(1 << 11), NOTIMP, answers=0, echoes_question=False),
    Case("notify", message(4 << 11), NOTIMP, answers=0, echoes_question=False),
    Case("update", message(5 << 11), NOTIMP, answers=0, echoes_question=False),
    Case("opcode 15 and nothing more", message(15 << 11, b""), NOTIMP, answers=0, echoes_question=False),
    Case("unknown type", message(question=APEX + pack("!HH", 1000, 1)), answers=0),
    Case("edns", message(additional=opt()), edns=True),
    Case("edns, payload below 512", message(additional=opt(100)), edns=True),
    Case("edns at 512 with do", message(additional=opt(512, flags=0x8000)), edns=True, dnssec_ok=True),
    Case("edns1", message(additional=opt(version=1)), BADVERS, edns=True, answers=0),
    Case("edns255", message(additional=opt(version=255)), BADVERS, edns=True, answers=0),
    Case("unknown option", message(additional=opt(options=UNKNOWN)), edns=True),
    Case("edns1 with options", message(additional=opt(version=1, options=UNKNOWN)), BADVERS, edns=True, answers=0),
    Case("do", message(additional=opt(flags=0x8000)), edns=True, dnssec_ok=True),
    Case("unknown edns flag", message(additional=opt(flags=0x40)), edns=True),
    Case("edns1 with unknown flag", message(additional=opt(version=1, flags=0x40)), BADVERS, edns=True, answers=0),
    Case("nsid ecs cookie expire", message(additional=opt(options=NSID + ECS + COOKIE + EXPIRE)), edns=True),
    Case("one option of four octets, no data", message(additional=opt(options=NSID)), edns=True),
    Case("no question", message(question=b""), FORMERR, answers=0, echoes_question=False),
    Case("no question, with edns", message(question=b"", additional=opt()), FORMERR, answers=0, echoes_question=False),
    Case(
        "two questions",
        message(question=(APEX + SOA_IN) * 2, counts=(2, 0, 0, 0)),
        FORMERR,
        answers=0,
        echoes_question=False,
    ),
    Case("question cut short", message(question=APEX + b"\0"), FORMERR, answers=0, echoes_question=False),
    Case("name without an end", message(question=APEX[:-1]), FORMERR, answers=0, echoes_question=False),
    Case("pointer in the question", message(question=b"\xc0\x0c" + SOA_IN), FORMERR, answers=0, echoes_question=False),
    Case("label of 64 octets", message(question=b"\x40" + b"a" * 64 + b"\0" + SOA_IN), FORMERR, answers=0, echoes_question=False),
    Case("label type 10", message(question=b"\x80" + b"a" * 20 + b"\0" + SOA_IN), FORMERR, answers=0, echoes_question=False),
    Case(
        "name of 256 octets",
        message(question=(b"\x3f" + b"a" * 63) * 3 + b"\x3e" + b"a" * 62 + b"\0" + SOA_IN),
        FORMERR,
        answers=0,
        echoes_question=False,
    ),
    Case("answer in a query", message(additional=APEX + SOA_IN + bytes(6), counts=(1, 1, 0, 0)), FORMERR, answers=0, echoes_question=False),
    Case("two opts", message(additional=opt() * 2, counts=(1, 0, 0, 2)), FORMERR, answers=0),
    Case("opt not at the root", message(additional=b"\1a" + opt()), FORMERR, answers=0),
    Case("opt cut short", message(additional=opt()[:-1]), FORMERR, answers=0),
    Case("last option without the data it says it has: passed over", message(additional=opt(options=pack("!HH", 3, 9))), edns=True),
    Case("option longer than its opt, with data", message(additional=opt(options=pack("!HH", 3, 9) + b"12")), FORMERR, answers=0),
    Case("additional counted but missing", message(counts=(1, 0, 0, 1)), FORMERR, answers=0),
    Case("65535 additionals counted", message(additional=opt(), counts=(1, 0, 0, 65535)), FORMERR, answers=0),
    Case("another record beside opt", message(additional=b"\1a\0" + pack("!HHIH", 1, 1, 0, 4) + b"abcd" + opt(), counts=(1, 0, 0, 2)), edns=True),
    Case("class chaos", message(question=APEX + pack("!HH", 16, 3)), REFUSED, answers=0),
    Case("class any", message(question=APEX + pack("!HH", 6, 255)), REFUSED, answers=0),
)  # fmt: skip

SILENT = (b"", b"\0" * 11, message(QR), message(QR | 15 << 11), b"\xff" * 12)


@pytest.fixture(scope="module")
def scopes() -> ScopeTable:
    scopes = ScopeTable(worlds.PLATFORM, worlds.BINDINGS)
    scopes.publish(worlds.compiled(worlds.production()))
    scopes.is_loaded = True
    return scopes


@pytest.mark.parametrize("transport", Transport)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_conformance(case: Case, transport: Transport, scopes: ScopeTable) -> None:
    state = scopes.scope_of(b"\x7f\0\0\2", worlds.ASKED).state
    counts = QueryCounts()
    reply = Responder(scopes, counts).respond(case.packet, state, transport)
    assert isinstance(reply, bytes)
    id_, flags, questions, answers, authorities, additionals = unpack_from("!6H", reply)
    opt_record = reply[-11:] if additionals else b""
    assert id_ == ID
    assert flags >> 11 & 0xF == unpack_from("!H", case.packet, 2)[0] >> 11 & 0xF
    expected = QR | RA | case.flags | (AA if case.rcode == NOERROR else 0)
    assert flags & 0x87F0 == expected & 0x87F0
    extended = opt_record[5] if case.edns else 0
    assert flags & 0xF | extended << 4 == case.rcode
    question_end = case.packet.find(b"\0", 12) + 5
    assert (questions, reply[12:question_end]) == (1, case.packet[12:question_end]) or not case.echoes_question
    assert questions == case.echoes_question
    assert answers == case.answers
    assert authorities == (case.rcode == NOERROR and not case.answers)
    if case.rcode == REFUSED:
        return  # with its reason, where the client takes one
    assert additionals == case.edns
    if case.edns:
        assert (
            opt_record
            == opt(1232, flags=0x8000 if case.dnssec_ok else 0)[:5]
            + bytes([extended])
            + opt(1232, flags=0x8000 if case.dnssec_ok else 0)[6:]
        )
    assert counts.errors == 0


@pytest.mark.parametrize("packet", SILENT)
def test_what_is_no_query_gets_no_reply(packet: bytes, scopes: ScopeTable) -> None:
    counts = QueryCounts()
    state = scopes.scope_of(b"\x7f\0\0\2", worlds.ASKED).state
    assert Responder(scopes, counts).respond(packet, state, Transport.UDP) is None
    assert counts.dropped.total() == 1
    assert counts.errors == 0
