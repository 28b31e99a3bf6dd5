"""A store of a test's own with a resolver and an admin API on it, and a prober that asks the resolver all the time."""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Self

import dns.message
import dns.rcode
import dns.rdatatype

from interlock.client import Client
from tests.interlock.processes import Running, get, interlock, run_here, started, wait_until
from tests.waiting import scaled

ENVIRONMENTS, SERVICES, COPIES = 10, 3, 4
QUERIES = int(os.environ.get("TEST_QUERIES") or 2000)
"""How many queries are asked while each fault lasts, at least; a soak sets the variable."""
DEADLINE = scaled(60.0)  # seconds
_LOST_AFTER = 5.0  # seconds without a reply, after which a query counts as unanswered


class StoreServer:
    """A Redis or Valkey that clients reach by the socket ``path``, whichever of several servers is behind it."""

    def __init__(self, binary: str, directory: Path, *options: str) -> None:
        directory.mkdir()
        self.directory, self.socket = directory, directory / "server.sock"
        self._command = [
            binary, "--port", "0", "--unixsocket", str(self.socket), "--dir", str(directory), "--logfile", "log",
            *options,
        ]  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        self._process = subprocess.Popen(self._command)
        wait_until(lambda: self.run("PING") == "PONG")
        return self

    def kill(self) -> None:
        """``kill -9``."""
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None

    def run(self, *command: str) -> str:
        """What ``redis-cli`` prints for ``command``."""
        done = subprocess.run(
            [_cli(), "-s", str(self.socket), *command], capture_output=True, text=True, check=False, timeout=DEADLINE
        )
        return done.stdout.strip()

    def drop_clients(self) -> None:
        """Ends all connections, as a restart or a failover does."""
        self.run("CLIENT", "KILL", "TYPE", "normal")


def _cli() -> str:
    found = shutil.which("redis-cli")
    assert found, "no redis-cli on this machine: install the package redis-tools"
    return found


@dataclass
class Deployment:
    """An admin API and a resolver on the store behind ``socket``, in which `populate` has made environments."""

    socket: Path
    state: Path
    admin: Running
    resolver: Running
    client: Client
    expected: dict[tuple[str, str], frozenset[str]] = field(default_factory=dict)
    """The addresses of each name, by the address of the client that asks and the name."""

    @classmethod
    @contextmanager
    def running(cls, directory: Path, server: StoreServer) -> Iterator[Deployment]:
        """The deployment while the block runs."""
        path, state = directory / "store.sock", directory / "state"
        path.symlink_to(server.socket)
        url, bound = f"unix://{path}", [f"127.0.1.{one}/32=e{one}" for one in range(ENVIRONMENTS)]
        with ExitStack() as stack:
            admin = stack.enter_context(
                started(*interlock("admin", "--redis", url, "--state-dir", str(state), "--api-listen", "127.0.0.1:0"))
            )
            resolver = stack.enter_context(
                started(
                    *interlock(
                        "resolver", "--redis", url, "--state-dir", str(directory / "resolver"), "--dns-listen",
                        "127.0.0.1:0", "--ops-listen", "127.0.0.1:0", "--upstream", "none",
                        *(word for one in bound for word in ("--bind", one)),
                    )
                )
            )  # fmt: skip
            for process in (admin, resolver):
                wait_until(partial(has_event, process, "ready"))
            api = f"http://{events(admin, 'http_listening')[0]['address']}"
            found = cls(path, state, admin, resolver, Client(api, (state / "admin.token").read_text().strip()))
            wait_until(lambda: get(f"{api}/readyz")[0] == 200)
            yield found

    @property
    def dns(self) -> tuple[str, int]:
        (address,) = events(self.resolver, "dns_listening")[0]["addresses"]
        return "127.0.0.1", int(address.rpartition(":")[2])

    @property
    def operations(self) -> str:
        return f"http://{events(self.resolver, 'http_listening')[0]['address']}"

    def populate(self, first: int = 0, last: int = ENVIRONMENTS) -> None:
        """Makes the environments from ``e<first>`` on, and waits until the resolver answers them."""
        for number in range(first, last):
            id_ = f"e{number}"
            self.client.put("environments", id_, body={})
            edits: list[dict[str, Any]] = []
            for service in (f"s{one}" for one in range(SERVICES)):
                edits.append({"op": "put-service", "name": service})
                edits += [{"op": "put-instance", "service": service, "id": f"{service}-{one}"} for one in range(COPIES)]
            results = self.client.post("environments", id_, "batch", body={"edits": edits})["results"]
            for edit, result in zip(edits, results, strict=True):
                if edit["op"] == "put-instance":
                    self._expect(number, edit["service"], edit["id"], result["instance"]["address"])
        wait_until(lambda: self.metric("interlock_environments") == last)

    def _expect(self, number: int, service: str, instance: str, address: str) -> None:
        client = f"127.0.1.{number}"
        every = self.expected.get((client, service), frozenset())
        self.expected[client, service] = every | {address}
        self.expected[client, f"{instance}.{service}"] = frozenset({address})

    def metric(self, name: str) -> float:
        """The sum of all samples of ``name`` of the resolver."""
        text = get(f"{self.operations}/metrics")[1]
        return sum(map(float, re.findall(rf"^{name}(?:{{.*}})? (\S+)$", text, re.MULTILINE)))

    def readyz(self) -> tuple[int, str]:
        return get(f"{self.operations}/readyz?verbose")

    def interlock(self, *arguments: str) -> tuple[int, str, str]:
        """The product's command, against this admin API."""
        return run_here(*arguments, "--api", self.client.url, "--token", self.client.token)

    def is_held(self, kind: str) -> bool:
        """Whether the resolver holds something of ``kind``."""
        return self.metric(f'interlock_guard_held{{kind="{kind}"}}') > 0


def has_event(process: Running, name: str) -> bool:
    """Whether the log of ``process`` has an event ``name``."""
    return bool(events(process, name))


def events(process: Running, name: str) -> list[dict[str, Any]]:
    """The events ``name`` in the log of ``process``."""
    whole = process.errors.rpartition("\n")[0]
    return [event for line in whole.splitlines() if (event := json.loads(line))["event"] == name]


class Prober:
    """Asks for all names of ``expected`` all the time, each from its client's address, and judges every answer.

    With ``other``, a query that the server does not answer, or with SERVFAIL, is put to that one, as clients do that
    have two nameservers.
    """

    def __init__(
        self,
        server: tuple[str, int],
        expected: Mapping[tuple[str, str], frozenset[str]],
        other: tuple[str, int] | None = None,
        pause: float = 0.0,
    ) -> None:
        """With ``pause`` it waits so many seconds after each query, and leaves the processor to others."""
        self.asked = 0
        self.right = 0
        self.wrong: Counter[str] = Counter()
        self.unanswered = 0
        self.turned = 0
        """Queries that were put to the other server."""
        self._pause = pause
        self._servers, self._expected = [server, *([other] if other else [])], dict(expected)
        self._sockets: dict[str, list[socket.socket]] = {}
        self._verdicts: dict[tuple[str, str, bytes], str] = {}
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._work)

    def __enter__(self) -> Self:
        for client, _ in self._expected:
            if client not in self._sockets:
                self._sockets[client] = [_connected(client, server) for server in self._servers]
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()
        for sock in chain.from_iterable(self._sockets.values()):
            sock.close()

    def until_asked(self, more: int = QUERIES) -> None:
        """Returns when ``more`` further queries have been asked."""
        wanted = self.asked + more
        while self.asked < wanted:
            assert self._thread.is_alive()
            time.sleep(0.01)

    def _work(self) -> None:
        queries = {
            key: dns.message.make_query(f"{key[1]}.railway.internal", "AAAA", id=0, use_edns=False).to_wire()[2:]
            for key in self._expected
        }
        number = 0
        while not self._is_over.is_set():
            for (client, name), query in queries.items():
                number = (number + 1) & 0xFFFF
                self.asked += 1
                self._judge(client, name, self._ask(self._sockets[client], number.to_bytes(2, "big") + query))
                time.sleep(self._pause)

    def _ask(self, sockets: Sequence[socket.socket], packet: bytes) -> bytes | None:
        for turn, sock in enumerate(sockets):
            self.turned += turn
            with suppress(ConnectionRefusedError):  # nobody listens there now
                sock.send(packet)
                reply = self._receive(sock, packet[:2])
                if reply and (sock is sockets[-1] or reply[3] & 0x0F != dns.rcode.SERVFAIL):
                    return reply
        return None

    def _receive(self, sock: socket.socket, number: bytes) -> bytes | None:
        deadline = time.monotonic() + _LOST_AFTER
        while select.select([sock], [], [], max(0.0, deadline - time.monotonic()))[0]:
            reply = sock.recv(4096)
            if reply[:2] == number:
                return reply
        return None

    def _judge(self, client: str, name: str, reply: bytes | None) -> None:
        if reply is None:
            self.unanswered += 1
            return
        key = (client, name, reply[2:])
        if key not in self._verdicts:
            self._verdicts[key] = self._fault(client, name, dns.message.from_wire(reply))
        if fault := self._verdicts[key]:
            self.wrong[fault] += 1
        else:
            self.right += 1

    def _fault(self, client: str, name: str, reply: dns.message.Message) -> str:
        found = frozenset(
            record.to_text() for rrset in reply.answer if rrset.rdtype == dns.rdatatype.AAAA for record in rrset
        )
        expected = self._expected[client, name]
        if reply.rcode() == dns.rcode.NOERROR and found == expected:
            return ""
        return f"{client} {name}: {dns.rcode.to_text(reply.rcode())} {sorted(found)}, not {sorted(expected)}"


def _connected(client: str, server: tuple[str, int]) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((client, 0))
    sock.connect(server)
    return sock
