"""The first connection to each name, made as soon as the name is answered: in workloads that say who they are."""

from __future__ import annotations

import contextlib
import select
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Self

import dns.message
import dns.rdatatype

from tests.mesh.members import ZONE
from tests.mesh.prober import RESOLVER
from tests.mesh.topology import Workload
from tests.waiting import scaled

PORT = 7001
_TOTAL_RETRANS = 100  # where struct tcp_info has tcpi_total_retrans
CONNECT_TIMEOUT = scaled(5.0)  # seconds; a connection takes milliseconds, unless the machine is busy
_REPLY_DEADLINE = 0.02  # seconds until names are asked for again; the resolver may hold a query back for longer


@contextlib.contextmanager
def presenting(workload: Workload, text: str) -> Iterator[None]:
    """``workload`` sends ``text`` to whoever connects to it."""
    is_over = threading.Event()

    def serve() -> None:
        while not is_over.is_set():
            if select.select([listener], [], [], 0.05)[0]:
                connection, _ = listener.accept()
                with connection, contextlib.suppress(OSError):
                    connection.sendall(text.encode())

    with workload.call(lambda: socket.create_server(("::", PORT), family=socket.AF_INET6, backlog=64)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield
        finally:
            is_over.set()
            thread.join()


class FirstConnections:
    """Asks for ``names`` of the zone from inside ``workload`` until each was answered, and then connects there, once.

    For the length of a with-statement. Where a name leads, the workload presents itself by that name.
    """

    def __init__(self, workload: Workload, names: Sequence[str]) -> None:
        self.made: dict[str, str] = {}
        """What came of each connection, by name: what the other end said, or the error."""
        self._workload, self._names = workload, names
        self._is_over = threading.Event()
        self._pool = ThreadPoolExecutor(len(names))
        self._thread = threading.Thread(target=self._work)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()
        self._pool.shutdown()

    @property
    def failed(self) -> dict[str, str]:
        """What came of those that led nowhere, or to another workload."""
        return {name: found for name, found in self.made.items() if found != name}

    def _work(self) -> None:
        with self._workload.call(lambda: socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)) as sock:
            sock.connect(RESOLVER)
            left = list(self._names)
            while left and not self._is_over.is_set():
                for number, name in enumerate(left):
                    sock.send(dns.message.make_query(f"{name}.{ZONE}", "AAAA", id=number, use_edns=False).to_wire())
                answered = dict(self._replies(sock, len(left)))
                for name in answered.keys() & set(left):
                    self._pool.submit(self._connect, name, answered[name])
                left = [name for name in left if name not in answered]

    def _replies(self, sock: socket.socket, number: int) -> Iterator[tuple[str, str]]:
        """Name and address of those of the next ``number`` replies that have one, as far as they come in time."""
        until = time.monotonic() + _REPLY_DEADLINE
        for _ in range(number):
            if not select.select([sock], [], [], max(0.0, until - time.monotonic()))[0]:
                return
            reply = dns.message.from_wire(sock.recv(4096))
            name = reply.question[0].name.to_text().removesuffix(f".{ZONE}.")
            for rrset in reply.answer:
                if rrset.rdtype == dns.rdatatype.AAAA:
                    yield name, rrset[0].to_text()

    def _connect(self, name: str, address: str) -> None:
        try:
            with self._workload.call(lambda: socket.socket(socket.AF_INET6, socket.SOCK_STREAM)) as sock:
                sock.settimeout(CONNECT_TIMEOUT)
                sock.connect((address, PORT))
                said, more = sock.recv(100).decode(), _sent_again(sock)
                self.made[name] = f"{address}: {more} packets were lost" if more else said
        except OSError as error:
            self.made[name] = f"{address}: {error}"


def _sent_again(sock: socket.socket) -> int:
    """How many segments the kernel has sent again: it helps a first connection whose first packet led nowhere."""
    size = _TOTAL_RETRANS + 4
    return int.from_bytes(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, size)[_TOTAL_RETRANS:], sys.byteorder)
