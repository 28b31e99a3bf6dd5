"""The network as it is found: what clients are answered while a machine's own settings are wrong, or not there yet."""

from __future__ import annotations

import socket
import time
from pathlib import Path
from urllib.error import URLError

from resolver.client import Answer, ask
from resolver.errors import AskError
from tests.interlock.processes import DEADLINE, get, interlock, started
from zones.names import Name
from zones.records import RRType

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
        assert all(len(answer.records) == 2 for answer in answers if answer.rcode == "NOERROR")


def asked(server: tuple[str, int]) -> list[Answer]:
    """The answer of ``server``, if it answers yet."""
    try:
        return [ask(server, API, RRType.AAAA)]
    except AskError:
        return []


def is_ready(url: str) -> bool:
    try:
        return get(url)[0] == 200
    except URLError:
        return False
