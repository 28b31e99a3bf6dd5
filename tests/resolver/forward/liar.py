"""An upstream that does whatever a test wants: what it says to a name is in a table, by the name's first label.

It counts what it is asked, so that a test can prove what was not.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset

from resolver.wire.messages import Transport
from support.endpoints import Endpoint

ZONE = "liar.example."
SOA = f"{ZONE} 600 IN SOA ns.{ZONE} hostmaster.{ZONE} 1 3600 600 86400 60"
SLOW = 0.9  # seconds
OVERDUE = 1.3  # seconds; later than any client waits

Message = dns.message.Message


@dataclass(frozen=True, slots=True)
class Say:
    """``packet``, ``after`` so many seconds. Over TCP only ``cut`` octets of it, then the end.

    ``forged`` is how many times it is sent from another port instead; only over UDP.
    """

    packet: bytes
    after: float = 0.0
    forged: int = 0
    cut: int | None = None


Behaviour = Callable[[Message, Transport], Sequence[Say]]


@dataclass(frozen=True, slots=True)
class Asked:
    """A query that came; ``port`` is its source."""

    name: str
    rtype: str
    transport: Transport
    port: int
    id: int
    flags: int
    edns: int
    dnssec_ok: bool


@dataclass(slots=True)
class Liar:
    """``always``, if set, is done for any name. Over TCP it listens only ``with_tcp``, with TLS where there is one."""

    behaviours: dict[str, Behaviour]
    always: Behaviour | None = None
    with_tcp: bool = True
    tls: ssl.SSLContext | None = None
    asked: list[Asked] = field(default_factory=list)
    address: tuple[str, int] = ("", 0)
    _timers: list[asyncio.TimerHandle] = field(default_factory=list)

    def __str__(self) -> str:
        return str(Endpoint(*self.address[:2]))

    def count(self, label: str = "") -> int:
        """How many queries came for names that begin with ``label``."""
        return sum(asked.name.startswith(label) for asked in self.asked)

    def behave(self, packet: bytes, transport: Transport, port: int) -> Sequence[Say]:
        query = dns.message.from_wire(packet)
        question = query.question[0]
        name = question.name.to_text().lower()
        rtype = dns.rdatatype.to_text(question.rdtype)
        dnssec_ok = bool(query.ednsflags & dns.flags.DO)
        self.asked.append(Asked(name, rtype, transport, port, query.id, int(query.flags), query.edns, dnssec_ok))
        behaviour = self.always or self.behaviours.get(name.split(".")[0].split("-")[0], nxdomain)
        return behaviour(query, transport)

    def say(self, sock: socket.socket, saying: Say, to: tuple[str, int]) -> None:
        if saying.forged:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
                other.bind((self.address[0], 0))
                for _ in range(saying.forged):
                    other.sendto(saying.packet, to)
        else:
            sock.sendto(saying.packet, to)

    def say_later(self, sock: socket.socket, saying: Say, to: tuple[str, int]) -> None:
        timer = asyncio.get_running_loop().call_later(saying.after, self.say, sock, saying, to)
        self._timers.append(timer)

    async def serve_udp(self, sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            packet, source = await loop.sock_recvfrom(sock, 4096)
            for saying in self.behave(packet, Transport.UDP, source[1]):
                (self.say_later if saying.after else self.say)(sock, saying, source)

    async def serve_tcp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        port = writer.get_extra_info("peername")[1]
        with contextlib.suppress(OSError, EOFError):
            while True:
                packet = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
                for saying in self.behave(packet, Transport.TCP, port):
                    await asyncio.sleep(saying.after)
                    frame = len(saying.packet).to_bytes(2, "big") + saying.packet
                    writer.write(frame[: saying.cut])
                    await writer.drain()
                    if saying.cut is not None:
                        raise EOFError
        writer.transport.abort()

    def stop(self) -> None:
        for timer in self._timers:
            timer.cancel()


@asynccontextmanager
async def lying(
    *,
    always: Behaviour | None = None,
    with_tcp: bool = True,
    tls: ssl.SSLContext | None = None,
    host: str = "127.0.0.1",
) -> AsyncIterator[Liar]:
    """A liar on a free port of ``host``."""
    liar = Liar(BEHAVIOURS, always, with_tcp, tls)
    with _bound_pair(host) as (udp, tcp):
        liar.address = udp.getsockname()
        serving = asyncio.create_task(liar.serve_udp(udp))
        server = await asyncio.start_server(liar.serve_tcp, sock=tcp, ssl=tls) if with_tcp else None
        if server is None:
            tcp.close()  # from now on TCP is refused
        try:
            yield liar
        finally:
            serving.cancel()
            if server:
                server.close()
            await asyncio.gather(serving, return_exceptions=True)
            liar.stop()


@contextlib.contextmanager
def _bound_pair(host: str) -> Iterator[tuple[socket.socket, socket.socket]]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    while True:
        udp, tcp = (socket.socket(family, kind) for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM))
        with udp, tcp:
            udp.bind((host, 0))
            try:
                tcp.bind(udp.getsockname())
            except OSError:
                continue
            udp.setblocking(False)
            tcp.setblocking(False)
            yield udp, tcp
            return


def reply(
    query: Message,
    *answer: str,
    authority: Sequence[str] = (),
    rcode: dns.rcode.Rcode = dns.rcode.NOERROR,
    recursive: bool = True,
    truncated: bool = False,
    authentic: bool = False,
) -> Message:
    """A reply to ``query``; ``@`` at the start of a record is the name that was asked."""
    message = dns.message.make_response(query, recursion_available=recursive)
    message.set_rcode(rcode)
    if truncated:
        message.flags |= dns.flags.TC
    if authentic:
        message.flags |= dns.flags.AD
    qname = query.question[0].name.to_text()
    message.answer = [_record(qname, text) for text in answer]
    message.authority = [_record(qname, text) for text in authority]
    return message


def _record(qname: str, text: str) -> dns.rrset.RRset:
    name, ttl, rclass, rtype, rdata = text.split(" ", 4)
    return dns.rrset.from_text(qname if name == "@" else name, int(ttl), rclass, rtype, rdata)


def wire(message: Message) -> bytes:
    return message.to_wire(max_size=65535)


def says(*answer: str, after: float = 0.0, authority: Sequence[str] = (), **more: object) -> Behaviour:
    """A behaviour: always the same records."""

    def behave(query: Message, transport: Transport) -> Sequence[Say]:
        return [Say(wire(reply(query, *answer, authority=authority, **more)), after)]  # type: ignore[arg-type]

    return behave


def over_tcp(*answer: str, over_udp: Sequence[str] = ()) -> Behaviour:
    """A behaviour: over UDP truncated, with the records ``over_udp``; over TCP whole."""

    def behave(query: Message, transport: Transport) -> Sequence[Say]:
        if transport is Transport.UDP:
            return [Say(wire(reply(query, *over_udp, truncated=True)))]
        return [Say(wire(reply(query, *answer)))]

    return behave


def silent(query: Message, transport: Transport) -> Sequence[Say]:
    return []


def _cut(query: Message, transport: Transport) -> Sequence[Say]:
    return [Say(wire(reply(query, *SMALL, truncated=transport is Transport.UDP)), cut=30)]


def _garbage(query: Message, transport: Transport) -> Sequence[Say]:
    chance = random.Random(4711)
    id_ = query.id.to_bytes(2, "big")
    return [Say(id_ + b"\x81\x80" + chance.randbytes(length)) for length in (0, 5, 8, 40, 500)]


def _broken(query: Message, transport: Transport) -> Sequence[Say]:
    whole = wire(reply(query, *SMALL))
    return [Say(whole[:-2])]


def _wrong_id(query: Message, transport: Transport) -> Sequence[Say]:
    wrong = reply(query, *FORGED)
    wrong.id = query.id ^ 1
    return [Say(wire(wrong))]


def _wrong_then_right(query: Message, transport: Transport) -> Sequence[Say]:
    return [*_wrong_id(query, transport), *_wrong_question(query, transport), Say(wire(reply(query, *SMALL)), 0.05)]


def _wrong_question(query: Message, transport: Transport) -> Sequence[Say]:
    other = dns.message.make_query("other." + ZONE, "A", id=query.id)
    return [Say(wire(reply(other, *FORGED)))]


def _flood(query: Message, transport: Transport) -> Sequence[Say]:
    """Answers from another port that are right in all else, and the true one late."""
    if transport is Transport.TCP:
        return [Say(wire(reply(query, *SMALL)))]
    forged = wire(reply(query, *FORGED))
    return [*[Say(forged, number / 20, forged=100) for number in range(5)], Say(wire(reply(query, *SMALL)), 0.3)]


def _guesses(query: Message, transport: Transport) -> Sequence[Say]:
    """Somebody who knows the port and guesses the ID."""
    if transport is Transport.TCP:
        return [Say(wire(reply(query, *SMALL)))]
    forged = bytearray(wire(reply(query, *FORGED)))
    guesses = []
    for number in range(1, 200):
        forged[:2] = (query.id ^ number).to_bytes(2, "big")
        guesses.append(Say(bytes(forged)))
    return [*guesses, Say(wire(reply(query, *FORGED)), 0.2)]


def _no_edns(query: Message, transport: Transport, *, rcode: dns.rcode.Rcode, headless: bool) -> Sequence[Say]:
    if query.edns < 0:
        return [Say(wire(reply(query, *SMALL)))]
    query.use_edns(False)
    message = reply(query, rcode=rcode)
    return [Say(wire(message)[:4] + bytes(8) if headless else wire(message))]


def _spiral(query: Message, transport: Transport) -> Sequence[Say]:
    """One alias after the other, for ever."""
    return says(f"@ 300 IN CNAME spiral-{random.randrange(10**6)}.{ZONE}")(query, transport)


def _aliases(*, chain: int, size: int) -> tuple[str, ...]:
    """A chain of CNAMEs whose reply has about ``size`` octets, all names being compressed."""
    label = ((size - 66) // chain - 16) // 2  # two of them a record, beside what all records have
    names = ["@", *(f"{chr(97 + at) * label}.{chr(107 + at) * label}.net." for at in range(chain))]
    lines = [f"{names[at]} 300 IN CNAME {names[at + 1]}" for at in range(chain)]
    return (*lines, f"{names[-1]} 300 IN A 192.0.2.7")


SMALL = ("@ 300 IN A 192.0.2.1",)
FORGED = ("@ 300 IN A 203.0.113.66",)
LARGE = tuple(f"@ 300 IN A 198.51.100.{number}" for number in range(1, 101))
CHAIN = _aliases(chain=7, size=850)
NXDOMAIN, SERVFAIL, REFUSED = dns.rcode.NXDOMAIN, dns.rcode.SERVFAIL, dns.rcode.REFUSED
nxdomain = says(rcode=NXDOMAIN, authority=[SOA])
small = says(*SMALL)

BEHAVIOURS: dict[str, Behaviour] = {
    "small": small,
    "www": small,
    "large": over_tcp(*LARGE),
    "partial": over_tcp(*LARGE, over_udp=LARGE[:5]),
    "chain": says(*CHAIN),
    "nxdomain": nxdomain,
    "bareno": says(rcode=NXDOMAIN),
    "nodata": says(authority=[SOA]),
    "barenodata": says(),
    "alias": says("@ 300 IN CNAME gone.other.example.", authority=[SOA.replace(ZONE, "other.example.")]),
    "noalias": says(
        "@ 300 IN CNAME gone.other.example.", rcode=NXDOMAIN, authority=[SOA.replace(ZONE, "other.example.")]
    ),
    "referral": says(authority=[f"{ZONE} 600 IN NS ns.{ZONE}"], recursive=False),
    "upward": says(authority=[". 600 IN NS a.root-servers.net."]),
    "lame": says(recursive=False),
    "halfway": says("@ 300 IN CNAME far.other.example.", recursive=False),
    "far": says("@ 300 IN CNAME small.other.example."),
    "inward": says("@ 300 IN CNAME nas.corp.internal.", recursive=False),
    "spiral": _spiral,
    "servfail": says(rcode=SERVFAIL),
    "refused": says(rcode=REFUSED),
    "silent": silent,
    "late": says(*SMALL, "@ 300 IN AAAA 2001:db8::1", after=0.2),
    "slow": says(*SMALL, after=SLOW),
    "overdue": says(*SMALL, after=OVERDUE),
    "garbage": _garbage,
    "broken": _broken,
    "wrongid": _wrong_id,
    "wrongquestion": _wrong_question,
    "wrongfirst": _wrong_then_right,
    "flood": _flood,
    "guesses": _guesses,
    "cut": _cut,
    "cuttwice": says(*SMALL, truncated=True),
    "formerr": lambda query, transport: _no_edns(query, transport, rcode=dns.rcode.FORMERR, headless=False),
    "headless": lambda query, transport: _no_edns(query, transport, rcode=dns.rcode.FORMERR, headless=True),
    "notimp": lambda query, transport: _no_edns(query, transport, rcode=dns.rcode.NOTIMP, headless=False),
    "shuffled": says(
        "c.other.example. 30 IN A 192.0.2.9",
        "evil.other.example. 300 IN A 203.0.113.66",
        "b.other.example. 200 IN CNAME c.other.example.",
        "@ 300 IN CNAME b.other.example.",
        "c.other.example. 60 IN A 192.0.2.8",
        "@ 300 IN CNAME b.other.example.",
        "c.other.example. 60 IN AAAA 2001:db8::66",
    ),
    "foreign": says("other.example. 300 IN A 203.0.113.66"),
    "loop": says("@ 300 IN CNAME b.other.example.", "b.other.example. 300 IN CNAME b.other.example."),
    "zero": says("@ 0 IN A 192.0.2.1"),
    "brief": says("@ 10 IN A 192.0.2.1"),
    "briefno": says(rcode=NXDOMAIN, authority=[SOA.replace(" 86400 60", " 86400 10")]),
    "signed": says(
        "@ 300 IN A 192.0.2.1",
        "@ 300 IN RRSIG A 13 3 300 20300101000000 20200101000000 1 liar.example. AAAA",
        authority=["@ 300 IN NS ns.liar.example.", "@ 300 IN NSEC z.liar.example. A RRSIG NSEC"],
        authentic=True,
    ),
    "mail": says("@ 300 IN MX 10 mail.liar.example.", "@ 300 IN MX 20 mail2.liar.example."),
}
"""What it does, by the first label of the name up to a hyphen."""
