"""A client at work: its program inside a namespace of its own, asked line by line.

    any|4|6 NAME          look up a name's addresses: of both families, or of one
    ptr ADDRESS           look up an address's name
    type NUMBER NAME      look up records of a type
    many COUNT SUFFIX     look up m0.SUFFIX, m1.SUFFIX … all at once

The program answers each with one line: the milliseconds that it took, a status (``ok``; ``none``: there is no such
name, or it has none of these; ``fail``; ``na``: this client has no such look-up), and what it found.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.clients.capture import Capture, Traffic
from tests.clients.namespaces import Host, Workload
from tests.conversation import Conversation

ROOT = Path(__file__).parents[2]
PATIENCE = 30.0  # seconds for one look-up; a resolver with the usual settings gives up after 10 to 20
END_PATIENCE = 2.0  # seconds for a program to end by itself
START_PATIENCE = 60.0  # seconds until a program that compiles or loads much is ready

# Bound over the machine's own, so that a client finds what a container of the product has, and no more.
_FILES = {
    "/etc/hosts": "127.0.0.1 client-of-the-matrix\n",  # without localhost: that is to be asked
    "/etc/nsswitch.conf": "hosts: files dns\n",
}
_ENTER = """
mkdir -p "$0/run"
for file in resolv.conf hosts nsswitch.conf; do mount --bind "$0/$file" "/etc/$file" || exit 1; done
exec "$@"
"""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a client said to one request, and what it sent for it."""

    status: str
    items: tuple[str, ...]
    milliseconds: float
    traffic: Traffic


class Session:
    """The program ``command`` in ``space``, with ``resolv_conf`` as its ``/etc/resolv.conf``.

    ``warm`` says that it makes one look-up before any that is asked: the first one loads code, and learns the
    neighbour's address.
    """

    def __init__(
        self,
        command: Sequence[str],
        environ: Mapping[str, str],
        host: Host,
        space: Workload,
        server: str,
        resolv_conf: str,
        *,
        warm: bool = True,
    ) -> None:
        self._warm = warm
        self._directory = tempfile.TemporaryDirectory(prefix="interlock-clients-")
        files = Path(self._directory.name)
        for path, text in {**_FILES, "/etc/resolv.conf": resolv_conf}.items():
            (files / Path(path).name).write_text(text)
        self._command = [*space.enter(), "unshare", "--mount", "sh", "-c", _ENTER, str(files), *command]
        own = {"PYTHONPATH": str(ROOT), "LC_ALL": "C.UTF-8", "TMPDIR": str(files)}
        self._environ = {**os.environ, **own, **environ}
        self._capture = Capture(host.capture(space.link), server)
        self._log = (files / "log").open("w+b")
        self._talk: Conversation | None = None

    def close(self) -> None:
        """Ends the program and all that it started."""
        if self._talk:
            self._talk.end(END_PATIENCE)
        self._capture.close()
        self._log.close()
        self._directory.cleanup()

    @property
    def log(self) -> str:
        """What the program has written to standard error."""
        self._log.flush()
        return Path(self._log.name).read_text(errors="replace")

    def ask(self, request: str, patience: float = PATIENCE) -> Outcome:
        """What the client makes of ``request``."""
        talk = self._talk or self._start()
        self._capture.drain()
        began = time.monotonic()
        line = talk.ask(request, patience)
        traffic = self._capture.drain()
        if line is None:
            self._stop()
            return Outcome("fail", ("gave no answer",), (time.monotonic() - began) * 1000, traffic)
        milliseconds, status, *items = line.split()
        return Outcome(status, tuple(items), float(milliseconds), traffic)

    def _start(self) -> Conversation:
        process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=self._environ,
            start_new_session=True,
        )
        self._talk = Conversation(process)
        if self._warm and self._talk.ask("6 warm.many.railway.internal", START_PATIENCE) is None:
            self._stop()
            raise RuntimeError(f"the client did not start: {self._command[7:]}\n{self.log[-2000:]}")
        return self._talk

    def _stop(self) -> None:
        talk, self._talk = self._talk, None
        if talk:
            talk.kill()
