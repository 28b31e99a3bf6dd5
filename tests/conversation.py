"""A program that is asked line by line, and answers each line with one."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import time


class Conversation:
    """With ``process``, which has pipes as its standard input and output, and leads a process group of its own."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self._buffer = b""

    def ask(self, request: str, patience: float) -> str | None:
        """The line that answers ``request``; None where none came within ``patience`` seconds."""
        return self.read(patience) if self.say(request) else None

    def say(self, request: str) -> bool:
        """Whether the line ``request`` could be told."""
        assert self.process.stdin
        try:
            self.process.stdin.write(request.encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            return False
        return True

    def read(self, patience: float) -> str | None:
        """The next line; None where none came within ``patience`` seconds."""
        assert self.process.stdout
        deadline = time.monotonic() + patience
        while b"\n" not in self._buffer:
            ready, _, _ = select.select([self.process.stdout], [], [], max(0.0, deadline - time.monotonic()))
            data = os.read(self.process.stdout.fileno(), 65536) if ready else b""
            if not data:
                return None
            self._buffer += data
        line, self._buffer = self._buffer.split(b"\n", 1)
        return line.decode()

    def end(self, patience: float) -> None:
        """Ends the program with its input; after ``patience`` seconds, or where that is not enough, by force."""
        assert self.process.stdin
        # A program that is well ends with its input, and takes its own children along.
        with contextlib.suppress(subprocess.TimeoutExpired, BrokenPipeError):
            self.process.stdin.close()
            self.process.wait(patience)
        self.kill()

    def kill(self) -> None:
        """Ends the program, and all that it started, by force."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
        self.process.wait()
