"""Look-ups through systemd-resolved: the C library asks its stub at 127.0.0.53, and it asks what resolv.conf names.

    python -m tests.clients.programs.with_resolved SYSTEMD-RESOLVED LOOKUP

Runs in a mount namespace of its own; the daemon's user and its place below /run are made there.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

_STUB = ("127.0.0.53", 53)
_USER = "systemd-resolve:x:991:991::/:/usr/sbin/nologin\n"
_GROUP = "systemd-resolve:x:991:\n"


def main(daemon: str, lookup: str) -> None:
    with tempfile.TemporaryDirectory(prefix="interlock-clients-") as directory:
        for path, line in (("/etc/passwd", _USER), ("/etc/group", _GROUP)):
            own = Path(directory, Path(path).name)
            own.write_text(Path(path).read_text() + line)
            subprocess.run(["mount", "--bind", own, path], check=True)
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run"], check=True)
        Path("/run/systemd").mkdir()
        subprocess.Popen([daemon], preexec_fn=_end_with_parent)
        _wait_for_stub()
        stub = Path("/run/resolv.conf")
        searches = [line for line in Path("/etc/resolv.conf").read_text().splitlines() if not line.startswith("names")]
        stub.write_text("\n".join([f"nameserver {_STUB[0]}", *searches, ""]))
        # The daemon keeps the resolv.conf that it was given; only the program that asks sees this one.
        os.execvp("unshare", ["unshare", "--mount", "sh", "-c", 'mount --bind "$0" /etc/resolv.conf && exec "$1"', str(stub), lookup])


def _wait_for_stub() -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            with socket.create_connection(_STUB, timeout=1):
                return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


if __name__ == "__main__":
    main(*sys.argv[1:])
