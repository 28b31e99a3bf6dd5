"""Sends queries from inside a workload all the time, and keeps every answer, so that no wrong one is missed."""

from __future__ import annotations

import contextlib
import itertools
import select
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import dns.message
import dns.rcode
import dns.rdatatype

from tests.mesh.topology import Workload

RESOLVER = ("fd12::10", 53)
_QUERY_INTERVAL = 0.004  # seconds between two queries
_LAST_REPLY_DEADLINE = 2.0  # seconds after the last query; the resolver holds a query back for 1.5 s at most
_ALLOWED = ("NOERROR", "NXDOMAIN", "SERVFAIL")


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer to a query for ``name``: its rcode and addresses."""

    name: str
    rcode: str
    addresses: frozenset[str]


class Prober:
    """Queries AAAA of names one after the other, for the length of a with-statement.

    ``names`` gives the names of the next round.
    """

    def __init__(self, workload: Workload, names: Callable[[], Sequence[str]]) -> None:
        self.answers: Counter[Answer] = Counter()
        self.unanswered = 0
        """How many queries had no answer. There are some if a test kills the resolver."""
        self._names = itertools.chain.from_iterable(iter(names, ()))
        self._asked: dict[int, str] = {}
        self._workload = workload
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._work)

    def __enter__(self) -> Self:
        open_socket = lambda: socket.socket(socket.AF_INET6, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)  # noqa: E731
        self._sock = self._workload.call(open_socket)
        self._sock.connect(RESOLVER)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()
        self._sock.close()
        self.unanswered = len(self._asked)

    def wrong_answers(self, known: Mapping[str, Collection[str]]) -> list[str]:
        """The wrong answers, a line each. Right ones have only ``known`` addresses of their name, or none."""
        return [
            f"{answer.name}: {answer.rcode} {sorted(answer.addresses)}, {count} times"
            for answer, count in self.answers.items()
            if answer.rcode not in _ALLOWED or not answer.addresses <= set(known.get(answer.name, ()))
        ]

    def _work(self) -> None:
        for number, name in zip(itertools.cycle(range(0x10000)), self._names, strict=False):
            if self._is_over.is_set():
                break
            self._asked[number] = name
            query = dns.message.make_query(name, "AAAA", id=number, use_edns=False)
            with contextlib.suppress(OSError):  # the resolver was killed and does not listen
                self._sock.send(query.to_wire())
            self._receive(time.monotonic() + _QUERY_INTERVAL)
        deadline = time.monotonic() + _LAST_REPLY_DEADLINE
        while self._asked and time.monotonic() < deadline:
            self._receive(min(deadline, time.monotonic() + _QUERY_INTERVAL))

    def _receive(self, until: float) -> None:
        while (left := until - time.monotonic()) > 0:
            if not select.select([self._sock], [], [], left)[0]:
                return
            with contextlib.suppress(OSError):
                reply = dns.message.from_wire(self._sock.recv(4096))
                name = self._asked.pop(reply.id, None)
                if name is not None:
                    self.answers[_read(name, reply)] += 1


def _read(name: str, reply: dns.message.Message) -> Answer:
    records = [record for rrset in reply.answer if rrset.rdtype == dns.rdatatype.AAAA for record in rrset]
    return Answer(name, dns.rcode.to_text(reply.rcode()), frozenset(record.to_text() for record in records))
