"""Workloads that talk to each other: `programs/talk.c` at work in their namespaces, asked line by line."""

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
PATIENCE = scaled(30.0)  # seconds for one line; the program itself gives up before
END_PATIENCE = scaled(2.0)


def programs() -> dict[str, Build]:
    """The program with each C library, by the library's name. Raises `builds.Unavailable`."""
    return {"glibc": builds.glibc(source=TALK), "musl": builds.musl_of_debian(TALK)}


@dataclass(frozen=True, slots=True)
class Said:
    """What the program answered: ``words`` after its ``ok``, or where it failed and why."""

    ok: bool
    words: tuple[str, ...]

    @property
    def stage(self) -> str:
        """What failed: ``lookup``, ``connect`` …; empty if nothing did."""
        return "" if self.ok else self.words[0]

    @property
    def text(self) -> str:
        return " ".join(self.words)


@dataclass(frozen=True, slots=True)
class Times:
    """Of one connection, in milliseconds: look-up and handshake; and, from its start, the first octet and the last."""

    address: str
    lookup: float
    connect: float
    first: float
    total: float


class Talker:
    """The program in ``workload``, with the resolv.conf that the workload has now."""

    def __init__(self, workload: Workload, program: Build) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 closed by close
        self._talk = Conversation(workload.popen(program.command, self._log))

    def close(self) -> None:
        """Ends the program, and its connections with it."""
        self._talk.end(END_PATIENCE)
        self._log.close()

    def serve(self, port: int = PORT) -> None:
        """Serves TCP and UDP on ``port`` from now on, beside whatever else is asked."""
        said = self.ask(f"serve {port}")
        assert said.ok, said.text

    def lookup(self, name: str) -> Said:
        """The time in milliseconds, and the addresses of ``name``."""
        return self.ask(f"lookup {name}")

    def tcp(self, name: str, octets: int = 1, patience: int = 5000, port: int = PORT) -> Times | Said:
        """One connection to ``name``, tried once: so many octets there, and as many others back, compared."""
        said = self.ask(f"tcp {name} {port} {octets} {patience}")
        return Times(said.words[0], *map(float, said.words[1:])) if said.ok else said

    def udp(self, name: str, patience: int = 1000, port: int = PORT) -> Said:
        """One datagram to ``name`` and back."""
        return self.ask(f"udp {name} {port} {patience}")

    def icmp(self, name: str, patience: int = 1000) -> Said:
        """One echo of ``name``."""
        return self.ask(f"icmp {name} {patience}")

    def spoof(self, source: str, destination: str, port: int = PORT) -> Said:
        """Sends UDP, TCP and ICMPv6 packets to ``destination`` that name ``source`` as their sender."""
        return self.ask(f"spoof {source} {destination} {port}")

    def ask(self, request: str) -> Said:
        """What the program answers to ``request``."""
        return read_answer(self._talk.ask(request, PATIENCE), request)

    def hold(self, name: str, port: int = PORT) -> None:
        """Keeps a connection to ``name`` busy, an octet every 20 ms, until `release`."""
        line = self._talk.ask(f"hold {name} {port}", PATIENCE)
        assert line
        assert line.startswith("holding "), line

    def release(self) -> Held:
        """Ends the connection that is held, and says how it was."""
        said = self.ask("release")
        if said.ok:
            return Held(int(said.words[0]), float(said.words[1]))
        assert said.stage == "hold", said
        return Held(int(said.words[1]), float(said.words[2]), " ".join(said.words[3:]))


@dataclass(frozen=True, slots=True)
class Held:
    """A connection that was held: octets there and back, the longest time for one in milliseconds, why it broke."""

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


def talk_once(host: Host, program: Build, *request: object) -> Said:
    """What the program says to one request on ``host`` itself, not in a workload."""
    words = [str(word) for word in request]
    return read_answer(host.run([*program.command, *words]).stdout.strip() or None, " ".join(words))


def read_answer(line: str | None, request: str) -> Said:
    """What the program said in ``line``, which answers ``request``."""
    if line is None:
        return Said(ok=False, words=("program", f"no answer to {request!r}"))
    status, *words = line.split()
    return Said(status == "ok", tuple(words))
