"""A command in this process, with a terminal of 80 columns as its input and output."""

from __future__ import annotations

import os
import pty
import re
import shlex
import sys
import threading
from collections.abc import Sequence
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from unittest import mock

from interlock import cli

COLUMNS = 80
ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


def typed(line: str, answers: Sequence[tuple[str, str]] = ()) -> tuple[int, str]:
    """The exit status of the command ``line``, and what is on the screen after it."""
    controller, terminal = pty.openpty()
    shown: list[str] = []
    reader = threading.Thread(target=_watch, args=(controller, list(answers), shown))
    reader.start()
    with ExitStack() as until_over:
        slave = until_over.enter_context(os.fdopen(terminal, "r", closefd=False))
        out = until_over.enter_context(os.fdopen(os.dup(terminal), "w", buffering=1))
        until_over.enter_context(mock.patch.object(sys, "stdin", slave))
        until_over.enter_context(redirect_stdout(out))
        until_over.enter_context(redirect_stderr(out))
        status = cli.run(shlex.split(line)[1:])
    os.close(terminal)
    reader.join()
    os.close(controller)
    return status, on_screen("".join(shown))


def on_screen(written: str) -> str:
    """What stands on the screen in the end."""
    lines = ESCAPES.sub("", written.replace("\r\n", "\n")).split("\n")
    return "\n".join(line.rpartition("\r")[2].rstrip() for line in lines)


def _watch(controller: int, answers: list[tuple[str, str]], shown: list[str]) -> None:
    while True:
        try:
            more = os.read(controller, 1 << 16)
        except OSError:  # EIO: nobody has the terminal open any more
            return
        shown.append(more.decode(errors="replace"))
        if answers and answers[0][0] in "".join(shown):
            os.write(controller, answers.pop(0)[1].encode() + b"\n")
