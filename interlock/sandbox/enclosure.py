"""The enclosure of a sandbox: namespaces of its own for network, mounts and processes, in which a command runs.

All that the command makes is in these namespaces: links, processes, files below /run. They end with the first process
in them, which the kernel kills when the process that asked for the enclosure ends, whatever ends it. So nothing is
left on the machine, and nothing has to be cleaned up.

    this process ──► unshare(1) ──► the command, process 1 of its own namespace ──► hosts, agents, workloads …
"""

from __future__ import annotations

import contextlib
import os
import select
import shlex
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType

from interlock.errors import NoSandbox, SandboxFailed
from interlock.process.parent import end_with_parent
from interlock.sandbox.hosts import ROOT, SHARED

NEEDED = {
    "ip": "iproute2",
    "nft": "nftables",
    "unshare": "util-linux",
    "nsenter": "util-linux",
    "pivot_root": "util-linux",
    "mount": "mount",
}
"""The programs that a sandbox needs, and the packages of Debian that have them."""
SBIN = "/usr/sbin:/sbin"  # where some of them are, and not in the PATH of every user
READY_FD = "SANDBOX_READY_FD"  # the variable with the descriptor on which the command says that it is ready

END_DEADLINE = 10.0  # seconds; processes that are killed end at once, unless they wait for a disk

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_NAMESPACES = ("--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc")
_AS_ROOT = ("--user", "--map-root-user")  # for another user: root of a user namespace
_NO_PROGRAM, _NO_TUN = 110, 111  # exit statuses
_LACKS = {
    _NO_PROGRAM: "this kernel has no WireGuard, and wireguard-go is not installed (on Debian: apt-get install"
    " wireguard-go)",
    _NO_TUN: "wireguard-go needs /dev/net/tun, which this user cannot open: run it as root, or let all users open it"
    " (chmod 666 /dev/net/tun)",
}
# The kernel's WireGuard, or what wireguard-go needs.
_TRY = f"""
ip link add wireguard0 type wireguard 2>/dev/null && exit 0
command -v wireguard-go >/dev/null || exit {_NO_PROGRAM}
[ -r /dev/net/tun ] && [ -w /dev/net/tun ] || exit {_NO_TUN}
"""
# A root of its own: the folders of the machine are in it, and /run is new, where the namespaces of the hosts are named.
# In a user namespace the machine's root belongs to nobody, and an agent trusts no folder but root's.
_PREPARE = f"""
set -e
mount -t tmpfs -o mode=755 root /run
for place in /*; do
    if [ -L "$place" ]; then cp -P "$place" /run/
    elif [ -d "$place" ] && [ "$place" != /run ]; then mkdir "/run$place"; mount --rbind "$place" "/run$place"
    fi
done
mkdir -p /run/run/netns /run{SHARED} /run/run/sys
mount --rbind /sys /run/run/sys # ip-netns(8) mounts another one, which the kernel allows to who can see one
cd /run
pivot_root . .
umount --lazy .
cd {shlex.quote(str(ROOT))}
export TMPDIR={SHARED}
exec "$@"
"""


class Ended(BaseException):
    """A signal has come that ends the sandbox."""


def check() -> None:
    """Raises `NoSandbox` where this user cannot make an enclosure on this machine."""
    missing = sorted({package for command, package in NEEDED.items() if not shutil.which(command, path=_path())})
    if missing:
        raise NoSandbox(f"not installed: {', '.join(missing)} (on Debian: apt-get install {' '.join(missing)})")
    tried = subprocess.run([*_unshare(), "sh", "-c", _TRY], capture_output=True, text=True, env=_environ())
    if not tried.returncode:
        return
    if tried.returncode in _LACKS:
        raise NoSandbox(_LACKS[tried.returncode])
    what = " ".join(tried.stderr.split()) or f"status {tried.returncode}"
    if os.geteuid():
        raise NoSandbox(
            f"this user may not make namespaces here ({what}): run it as root, or have an administrator allow user"
            " namespaces (sysctl kernel.unprivileged_userns_clone=1, or on Ubuntu"
            " kernel.apparmor_restrict_unprivileged_userns=0)"
        )
    raise NoSandbox(f"root may not make namespaces here ({what}): in a container, it must be a privileged one")


def enclosed(command: Sequence[str], when_ready: Callable[[int], None]) -> int:
    """Runs ``command`` in an enclosure until it ends, or until a signal ends it; gives its exit status, 0 for a signal.

    ``when_ready`` is called with the process id of the command, as seen from here, once the command calls `say_ready`.
    `check` says beforehand whether there can be one.
    """
    ready, told = os.pipe()
    process = None
    with os.fdopen(ready, "rb") as stream:
        try:
            with _raising_ended():
                process = subprocess.Popen(
                    [*_unshare(), "sh", "-c", _PREPARE, "sh", *command],
                    stdin=subprocess.DEVNULL,
                    env={**_environ(), READY_FD: str(told)},
                    pass_fds=(told,),
                    start_new_session=True,  # a terminal's Ctrl-C is for this process, which ends all of it at once
                    preexec_fn=end_with_parent(),
                )
                os.close(told)
                if stream.readline():
                    when_ready(_first_process(process.pid))
                return process.wait()
        except Ended:
            return 0
        finally:
            if process:
                _end(process)


def say_ready() -> None:
    """Tells the process outside that what was to be made is there."""
    os.write(int(os.environ[READY_FD]), b"ready\n")


def _unshare() -> list[str]:
    return ["unshare", *(_AS_ROOT if os.geteuid() else ()), *_NAMESPACES, "--"]


def _path() -> str:
    return f"{os.environ.get('PATH', '')}:{SBIN}"


def _environ() -> dict[str, str]:
    return {**os.environ, "PATH": _path()}


@contextlib.contextmanager
def _raising_ended() -> Iterator[None]:
    def end(_number: int, _frame: FrameType | None) -> None:
        raise Ended

    before = {number: signal.signal(number, end) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _first_process(unshare: int) -> int:
    """The process id, as seen from here, of the first process of the enclosure. Raises `SandboxFailed`."""
    for entry in Path("/proc").glob("[0-9]*"):  # not /proc/PID/task/TID/children: a kernel may come without it
        with contextlib.suppress(OSError):  # it has ended
            if (entry / "stat").read_text().rpartition(")")[2].split()[1] == str(unshare):
                return int(entry.name)
    raise SandboxFailed("the sandbox has ended")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kills all processes of the enclosure; returns when they are gone."""
    first = None
    with contextlib.suppress(SandboxFailed, OSError):
        first = os.pidfd_open(_first_process(process.pid))
    process.kill()  # which kills the first one; and the kernel lets that end when all others have ended
    process.wait()
    if first is not None:
        select.select([first], [], [], END_DEADLINE)
        os.close(first)
