"""A terminal for the product's commands: a pseudo-terminal of a given width, and what a person sees on it."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tests.interlock.processes import DEADLINE, ROOT, clean_environ, interlock

ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


@dataclass(frozen=True, slots=True)
class Seen:
    """What a command has shown on its terminal."""

    status: int
    """Its exit status."""
    raw: str
    """All that it wrote, with its escape sequences; lines end with a newline alone."""

    @property
    def text(self) -> str:
        """All that it wrote, without escape sequences, as it stands on the screen in the end."""
        lines = ESCAPES.sub("", self.raw).split("\n")
        return "\n".join(line.rpartition("\r")[2] for line in lines)


def on_terminal(
    *arguments: str,
    columns: int = 80,
    environ: Mapping[str, str] | None = None,
    answers: Sequence[tuple[str, str]] = (),
) -> Seen:
    """Runs ``interlock`` with ``arguments`` on a terminal. Each of ``answers`` is typed once its question is there."""
    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environ = clean_environ({"TERM": "xterm", **(environ or {})})
    environ.pop("COLUMNS", None)
    process = subprocess.Popen(
        interlock(*arguments), stdin=terminal, stdout=terminal, stderr=terminal, cwd=ROOT, env=environ
    )
    os.close(terminal)
    shown, deadline, left = "", time.monotonic() + DEADLINE, list(answers)
    try:
        while select.select([controller], [], [], max(0.0, deadline - time.monotonic()))[0]:
            try:
                more = os.read(controller, 1 << 16)
            except OSError:  # EIO: the last one that had the terminal open has gone
                break
            shown += more.decode()
            if left and left[0][0] in shown:
                os.write(controller, left.pop(0)[1].encode() + b"\n")
        return Seen(process.wait(max(0.0, deadline - time.monotonic())), shown.replace("\r\n", "\n"))
    finally:
        process.kill()
        process.wait()
        os.close(controller)
