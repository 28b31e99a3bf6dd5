"""Queries by hand: what a client library sends only by chance, made on purpose.

``pair NAME`` asks for A and AAAA from one port with one ID, as musl 1.2.3 and before can, and wants both answers.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from pathlib import Path

import dns.message
import dns.rdatatype

from tests.clients.programs.answers import Failed, NoSuchLookup, serve

_ID = 0x1234
_PATIENCE = 5.0  # seconds


def look(request: list[str]) -> Iterable[str]:
    match request:
        case ["pair", name]:
            return _ask(name, "A", "AAAA")
        case ["6", name]:
            return _ask(name, "AAAA")
    raise NoSuchLookup


def _ask(name: str, *rtypes: str) -> list[str]:
    server = Path("/etc/resolv.conf").read_text().split()[1]
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        sock.settimeout(_PATIENCE)
        sock.connect((server, 53))
        for rtype in rtypes:
            sock.send(dns.message.make_query(name, rtype, id=_ID, use_edns=False).to_wire())
        try:
            replies = [dns.message.from_wire(sock.recv(4096)) for _ in rtypes]
        except OSError as error:
            raise Failed(str(error)) from error
    asked = {dns.rdatatype.to_text(reply.question[0].rdtype) for reply in replies}
    if asked != set(rtypes):
        raise Failed("not each question was answered")
    return [rdata.to_text() for reply in replies for rrset in reply.answer for rdata in rrset]


if __name__ == "__main__":
    serve(look)
