"""The test program `programs/talk.c` in workloads: a client and a server that takes requests line by line."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.clients import builds
from tests.clients.builds import Build
from tests.conversation import Conversation
from tests.mesh.topology import Host, Workload
from tests.waiting import scaled

TALK = Path(__file__).parent / "programs" / "talk.c"
PORT = 7000
LINE_DEADLINE = scaled(30.0)  # seconds for the answer to a line; the program itself gives up earlier
END_DEADLINE = scaled(2.0)


def programs() -> dict[str, Build]:
    """The program with each C library, by the library's name. Raises `builds.Unavailable`."""
    return {"glibc": builds.glibc(source=TALK), "musl": builds.musl_of_debian(TALK)}


@dataclass(frozen=True, slots=True)
class Reply:
    """What the program answered. ``words`` are the result if ``ok``, and else the stage that failed and why."""

    ok: bool
    words: tuple[str, ...]

    @property
    def stage(self) -> str:
        """The stage that failed: ``lookup``, ``connect`` …; empty if none did."""
        return "" if self.ok else self.words[0]

    @property
    def text(self) -> str:
        return " ".join(self.words)


@dataclass(frozen=True, slots=True)
class ConnectionTimes:
    """One connection's times in ms: of look-up and handshake, and from its start to the first octet and the last."""

    address: str
    lookup: float
    connect: float
    first: float
    total: float


class Talker:
    """The program at work in ``workload``, with the resolv.conf that the workload has now."""

    def __init__(self, workload: Workload, program: Build) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 closed by close
        self._talk = Conversation(workload.popen(program.command, self._log))

    def close(self) -> None:
        """Ends the program, and with it its connections."""
        self._talk.end(END_DEADLINE)
        self._log.close()

    def serve(self, port: int = PORT) -> None:
        """Serves TCP and UDP on ``port`` from now on, while it takes other requests."""
        reply = self.ask(f"serve {port}")
        assert reply.ok, reply.text

    def lookup(self, name: str) -> Reply:
        """Looks up ``name``: the words are the time in milliseconds, and the addresses."""
        return self.ask(f"lookup {name}")

    def tcp(self, name: str, octets: int = 1, timeout: int = 5000, port: int = PORT) -> ConnectionTimes | Reply:
        """One connection to ``name``, tried once: sends ``octets``, and compares the octets that come back."""
        reply = self.ask(f"tcp {name} {port} {octets} {timeout}")
        return ConnectionTimes(reply.words[0], *map(float, reply.words[1:])) if reply.ok else reply

    def udp(self, name: str, timeout: int = 1000, port: int = PORT) -> Reply:
        """One datagram to ``name`` and back."""
        return self.ask(f"udp {name} {port} {timeout}")

    def icmp(self, name: str, timeout: int = 1000) -> Reply:
        """One ICMPv6 echo to ``name``."""
        return self.ask(f"icmp {name} {timeout}")

    def spoof(self, source: str, destination: str, port: int = PORT) -> Reply:
        """Sends UDP, TCP and ICMPv6 packets with the source address ``source`` to ``destination``."""
        return self.ask(f"spoof {source} {destination} {port}")

    def ask(self, request: str) -> Reply:
        """What the program answers to ``request``."""
        return read_answer(self._talk.ask(request, LINE_DEADLINE), request)

    def hold(self, name: str, port: int = PORT) -> None:
        """Opens a connection to ``name`` and sends an octet every 20 ms, until `release`."""
        line = self._talk.ask(f"hold {name} {port}", LINE_DEADLINE)
        assert line
        assert line.startswith("holding "), line

    def release(self) -> HeldConnection:
        """Ends the connection of `hold`; gives how it went."""
        reply = self.ask("release")
        if reply.ok:
            return HeldConnection(int(reply.words[0]), float(reply.words[1]))
        assert reply.stage == "hold", reply
        return HeldConnection(int(reply.words[1]), float(reply.words[2]), " ".join(reply.words[3:]))


@dataclass(frozen=True, slots=True)
class HeldConnection:
    """A connection of `hold`: octets that came back, the longest time for one in ms, and why it broke, if it did."""

    count: int
    longest_gap: float
    broken: str = ""


@contextlib.contextmanager
def talking(workload: Workload, program: Build) -> Iterator[Talker]:
    """A talker for the length of a with-statement."""
    talker = Talker(workload, program)
    try:
        yield talker
    finally:
        talker.close()


def talk_once(host: Host, program: Build, *request: object) -> Reply:
    """The program's answer to one request on ``host`` itself, not in a workload."""
    words = [str(word) for word in request]
    return read_answer(host.run([*program.command, *words]).stdout.strip() or None, " ".join(words))


def read_answer(line: str | None, request: str) -> Reply:
    """The reply in ``line``, the program's answer to ``request``; None means that there was none."""
    if line is None:
        return Reply(ok=False, words=("program", f"no answer to {request!r}"))
    status, *words = line.split()
    return Reply(status == "ok", tuple(words))
