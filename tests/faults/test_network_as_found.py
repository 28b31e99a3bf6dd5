"""The network as it is found: what clients are answered while a machine's own settings are wrong, or not there yet."""

from __future__ import annotations

import os
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from urllib.error import URLError

import dns.message
import dns.rrset
import pytest

from resolver.client import Answer, ask
from resolver.errors import AskError
from tests.interlock.processes import DEADLINE, get, interlock, started, wait_until
from zones.names import Name
from zones.records import RRType

FIRST, SECOND = "127.0.53.1", "127.0.53.2"  # upstreams
API = Name.parse("api.railway.internal")


def free_port(kind: socket.SocketKind) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class TestTheDemo:
    """``interlock up --demo``: from its first answer on it knows the demo, and it is ready when it says so."""

    def test_nothing_is_refused_before_the_demo_is_there_and_ready_means_ready(self, tmp_path: Path) -> None:
        dns, api = ("127.0.0.1", free_port(socket.SOCK_DGRAM)), f"127.0.0.1:{free_port(socket.SOCK_STREAM)}"
        listen = ("--dns-listen", f"{dns[0]}:{dns[1]}", "--api-listen", api, "--upstream", "none")
        answers: list[Answer] = []
        with started(*interlock("up", *listen, "--demo", "--state-dir", str(tmp_path))) as process:
            deadline = time.monotonic() + DEADLINE
            while not is_ready(f"http://{api}/readyz"):
                assert time.monotonic() < deadline, process.errors
                answers += asked(dns)
            when_ready = ask(dns, API, RRType.AAAA)
        assert (when_ready.rcode, len(when_ready.records)) == ("NOERROR", 2)
        assert {answer.rcode for answer in answers} <= {"NOERROR", "SERVFAIL"}, answers
        assert {len(answer.records) for answer in answers if answer.rcode == "NOERROR"} <= {2}, answers


class TestResolvConf:
    """The host's nameservers change while the resolver runs, or come after it."""

    def test_they_are_followed(self, tmp_path: Path) -> None:
        if os.getuid():
            pytest.skip("only root can give a process an /etc/resolv.conf of its own")
        nameservers = tmp_path / "resolv.conf"
        nameservers.write_text("")
        mount = ("unshare", "--mount", "sh", "-c", f'mount --bind {nameservers} /etc/resolv.conf && exec "$@"', "sh")
        listen = ("--dns-listen", "127.0.0.1:0", "--api-listen", "127.0.0.1:0")
        command = interlock("up", *listen, "--demo", "--state-dir", str(tmp_path / "state"))
        with upstream(FIRST), upstream(SECOND), started(*mount, *command) as process:
            welcome = re.search(r"dig @(\S+) -p (\d+)", process.read_until("Ctrl-C"))
            assert welcome
            names = (Name.parse(f"{number}.example.com") for number in count())

            def answer() -> Answer:
                return ask((welcome[1], int(welcome[2])), next(names), RRType.A)

            nobody = answer()
            assert nobody.rcode == "SERVFAIL"
            assert b"/etc/resolv.conf names no nameserver".hex() in nobody.text
            nameservers.write_text(f"nameserver {FIRST}\n")
            wait_until(lambda: answer().rcode == "NOERROR")
            nameservers.write_text("")
            wait_until(lambda: "still_used" in process.errors)
            assert FIRST in answer().records[0]
            nameservers.write_text(f"nameserver {SECOND}\n")
            wait_until(lambda: SECOND in answer().records[0])


@contextmanager
def upstream(host: str) -> Iterator[None]:
    """A resolver on port 53 of ``host`` that answers every query for A with that address."""

    def serve(sock: socket.socket) -> None:
        while True:
            packet, client = sock.recvfrom(4096)
            if packet == b"stop":
                return
            query = dns.message.from_wire(packet)
            answer = dns.message.make_response(query, recursion_available=True)
            answer.answer = [dns.rrset.from_text(query.question[0].name, 60, "IN", "A", host)]
            sock.sendto(answer.to_wire(), client)

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((host, 53))
        thread = threading.Thread(target=serve, args=(sock,))
        thread.start()
        try:
            yield
        finally:
            sock.sendto(b"stop", (host, 53))
            thread.join()


def asked(server: tuple[str, int]) -> list[Answer]:
    """The answer of ``server``, if it answers yet."""
    try:
        answer = ask(server, API, RRType.AAAA)
    except AskError:
        return []
    # As long as nobody listens there, the kernel may choose that very port for ours, which then hears its own query.
    return [answer] if "flags: qr" in answer.text else []


def is_ready(url: str) -> bool:
    try:
        return get(url)[0] == 200
    except URLError:
        return False
