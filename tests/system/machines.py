"""Machines of a small Debian that are booted with systemd, in namespaces and on a network of their own.

The system is made once and kept in the cache; what a machine writes while it runs is discarded.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.system import containers
from tests.system.containers import CACHE
from tests.waiting import scaled

PACKAGES = (
    "systemd-sysv,dbus,python3,python3-venv,ca-certificates,openssl,redis-server,bind9-dnsutils,procps,iproute2,"
    "nftables,wireguard-go,curl"
)
SYSTEM = CACHE / f"machine-{containers.SUITE}-{hashlib.sha256(PACKAGES.encode()).hexdigest()[:8]}"
DEADLINE = scaled(240.0)  # seconds for one block of a guide, or a boot; some ten, unless the machine is busy
PREFIX = "interlock-guide"
_VARIABLES = (
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LC_ALL=C.UTF-8",
    "DEBIAN_FRONTEND=noninteractive",
)  # fmt: skip

# Should the machine or this process hang, every process of the machine ends with the first one of this namespace.
IN_PID_NAMESPACE = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")


def why_not() -> str:
    """Why no machine can be booted here; empty if one can."""
    if reason := containers.why_not():
        return reason
    return "" if shutil.which("systemd-nspawn") else "not installed: systemd-nspawn (systemd-container)"


def make_system() -> None:
    """Makes the system of the machines, unless it is there. Raises `containers.CannotBuild`."""
    if SYSTEM.exists():
        return
    unfinished = SYSTEM.with_suffix(".new")
    shutil.rmtree(unfinished, ignore_errors=True)
    containers.make_debian(unfinished, PACKAGES)
    unit_names = ["redis-server.service", "systemd-networkd.service", "systemd-resolved.service"]
    subprocess.run(["systemctl", f"--root={unfinished}", "--quiet", "disable", *unit_names], check=False)
    unfinished.rename(SYSTEM)


def command(name: str, binds: Mapping[Path, str], *flags: str) -> list[str]:
    """The command that boots a machine; ``binds`` are paths of this system that it can read, and where."""
    return [
        *IN_PID_NAMESPACE, "systemd-nspawn", "--quiet", "--boot", f"--directory={SYSTEM}", "--volatile=overlay",
        "--register=no", "--keep-unit", "--console=read-only", f"--machine={name}",
        "--system-call-filter=bpf",  # a machine of its own has it; a container of systemd's has not
        "--bind=/dev/net/tun", *(f"--bind-ro={source}:{target}" for source, target in binds.items()), *flags,
        "systemd.show_status=0",
    ]  # fmt: skip


@contextlib.contextmanager
def cable() -> Iterator[str]:
    """The name of a network namespace with a bridge, ``br0``, that the machines are joined by."""
    name = f"{PREFIX}-{secrets.token_hex(4)}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        for line in ("link add br0 type bridge forward_delay 0", "link set lo up", "link set br0 up"):
            subprocess.run(["ip", "-n", name, *line.split()], check=True)
        yield name
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=False)


class Machine:
    """A machine with ``address`` on the ``cable``, and a shell in which root types.

    ``directory`` is a folder of this system, which it sees as ``/test``.
    """

    def __init__(self, name: str, address: str, cable: str, directory: Path, *, clone: Path, wheels: Path) -> None:
        self.name, self._directory, self._blocks = name, directory, 0
        self._address = address
        settings = directory / "pip.conf"
        settings.write_text("[global]\nno-index = true\nfind-links = /wheels\ndisable-pip-version-check = true\n")
        network = ("--network-bridge=br0", f"--bind={directory}:/test", f"--bind={clone}:/root/interlock")
        booting = command(name, {settings: "/etc/pip.conf", wheels: "/wheels"}, *network)
        self._console = (directory / "console").open("wb")
        self._process = subprocess.Popen(
            ["nsenter", f"--net=/run/netns/{cable}", *booting],
            stdin=subprocess.DEVNULL,
            stdout=self._console,
            stderr=subprocess.STDOUT,
            env={**os.environ, "SYSTEMD_NSPAWN_LOCK": "0"},  # several machines are booted from one folder
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind and self._process.poll() is None and self._first_process():
            print(f"\n{self.name}:", self._run("journalctl --no-pager --boot --unit 'interlock-*' --lines 60").stdout)
        self._process.kill()
        self._process.wait()
        self._console.close()

    def boot(self) -> None:
        """Returns when it has booted, and has its address."""
        deadline = time.monotonic() + DEADLINE
        while not self._is_up():
            assert time.monotonic() < deadline, f"{self.name} does not boot:\n{self.console[-2000:]}"
            time.sleep(0.1)
        link = f"ip address add {self._address}/24 dev host0 && ip link set host0 up"
        done = self._run(link)
        assert done.returncode == 0, done.stderr

    def type(self, block: str, keyboard: str = "") -> str:
        """Runs ``block`` as a shell does in which root types it after the blocks before; gives what it prints.

        ``keyboard`` is what its programs read. Fails where a command of it fails.
        """
        self._blocks += 1
        file, state = self._directory / f"block-{self._blocks}", "/test/variables"
        file.write_text(
            # What the blocks before have exported is there; then each command is checked.
            f"[ ! -e {state} ] || . {state}\ncd /root/interlock\nset -E -o pipefail\n"
            "trap 'echo \"failed with status $?: $BASH_COMMAND\" >&2; exit 1' ERR\n"
            f"{block}\nexport -p >{state}\n"
        )
        done = self._run(f"bash /test/{file.name}", keyboard)
        assert done.returncode == 0, f"{self.name}: {block}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stdout

    def until(self, condition: str) -> None:
        """Returns when ``condition``, a command, has succeeded."""
        deadline = time.monotonic() + DEADLINE
        while self._run(condition).returncode:
            assert time.monotonic() < deadline, f"{self.name}: in vain: {condition}"
            time.sleep(0.1)

    @property
    def console(self) -> str:
        """What its console shows."""
        return Path(self._console.name).read_text(errors="replace")

    def _is_up(self) -> bool:
        assert self._process.poll() is None, f"{self.name} has ended:\n{self.console[-2000:]}"
        if not self._first_process():
            return False
        state = self._run("systemctl is-system-running").stdout.strip()
        return state in ("running", "degraded")

    def _run(self, text: str, keyboard: str = "") -> subprocess.CompletedProcess[str]:
        # Files, and no pipes: what is started in the background keeps them open.
        out, err = self._directory / "out", self._directory / "err"
        with out.open("w") as output, err.open("w") as errors:
            entering = ["nsenter", f"--target={self._first_process()}", "--all", "env", "-i"]
            shell = ["bash", "-c", f"cd /root\n{text}"]
            process = subprocess.Popen(
                [*entering, *_VARIABLES, *shell],
                stdin=subprocess.PIPE, stdout=output, stderr=errors, text=True, start_new_session=True,
            )  # fmt: skip
            assert process.stdin
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(keyboard)
                process.stdin.close()
            status = process.wait(DEADLINE)
        return subprocess.CompletedProcess(text, status, out.read_text(), err.read_text())

    def _first_process(self) -> int:
        """The process id, as seen from here, of its systemd; 0 while there is none."""
        pids = [self._process.pid]
        for pid in pids:
            with contextlib.suppress(OSError):
                pids += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
                if Path(f"/proc/{pid}/comm").read_text() == "systemd\n" and os.readlink(f"/proc/{pid}/root") == "/":
                    return pid
        return 0
