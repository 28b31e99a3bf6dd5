"""Two workloads that talk all the time: whoever cuts one of them off is found out by the datagrams that are lost."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from typing import Self

from tests.mesh.mesh import until
from tests.mesh.topology import Workload

PORT = 7  # RFC 862
_EVERY = 0.02  # seconds between two datagrams
_PATIENCE = 2.0  # seconds after which a datagram is lost


class Echo:
    """Datagrams from ``client`` to ``server`` and back, for the length of a with-statement."""

    def __init__(self, server: Workload, client: Workload) -> None:
        self.lost, self.answered = 0, 0
        self._ends = [end.call(lambda: socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)) for end in (server, client)]
        self._ends[0].bind((server.address, PORT))
        self._ends[1].bind((client.address, 0))
        self._ends[1].connect((server.address, PORT))
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._serve), threading.Thread(target=self._ask)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()
        for end in self._ends:
            end.close()

    def until_answered(self) -> None:
        """Returns when one more datagram has come back."""
        before = self.answered
        until(lambda: self.answered > before, "no datagram comes back")

    def _serve(self) -> None:
        while not self._ended.is_set():
            if select.select([self._ends[0]], [], [], 0.1)[0]:
                with contextlib.suppress(OSError):
                    datagram, source = self._ends[0].recvfrom(64)
                    self._ends[0].sendto(datagram, source)

    def _ask(self) -> None:
        number = 0
        while not self._ended.wait(_EVERY):
            number += 1
            try:
                self._ends[1].send(number.to_bytes(4, "big"))
                while True:
                    if not select.select([self._ends[1]], [], [], _PATIENCE)[0]:
                        self.lost += 1
                        break
                    if int.from_bytes(self._ends[1].recv(64), "big") == number:
                        self.answered += 1
                        break
            except OSError:
                self.lost += 1
