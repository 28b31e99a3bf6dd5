"""Look-ups through systemd-resolved: the C library asks its stub at 127.0.0.53, and it asks what resolv.conf names.

    python -m tests.clients.programs.with_resolved SYSTEMD-RESOLVED LOOKUP

Runs in a mount namespace of its own; the daemon's user and its place below /run are made there.
"""

from __future__ import annotations

import ctypes
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
        process = subprocess.Popen([daemon], preexec_fn=_end_with_parent)
        try:
            _wait_for_stub()
            _ask_stub(lookup)
        finally:
            process.kill()
            process.wait()


def _ask_stub(lookup: str) -> None:
    """Runs ``lookup`` with the stub for its nameserver. The daemon keeps the resolv.conf that it was given."""
    given = Path("/etc/resolv.conf").read_text().splitlines()
    stub = Path("/run/resolv.conf")
    stub.write_text("\n".join([f"nameserver {_STUB[0]}", *(line for line in given if "nameserver" not in line), ""]))
    script = 'mount --bind "$0" /etc/resolv.conf && exec "$1"'
    subprocess.run(["unshare", "--mount", "sh", "-c", script, stub, lookup], check=True)


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
