"""``interlock demo mesh``: it shows what it says, as root and as another user, and leaves nothing, whatever ends it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import pytest

from tests import wireguard
from tests.interlock.processes import NOBODY, ROOT, Running, interlock, run, started, wait_until
from tests.mesh import topology
from tests.waiting import scaled

pytestmark = pytest.mark.skipif(bool(topology.why_not()), reason=f"no mesh of hosts: {topology.why_not()}")

DEADLINE = scaled(120.0)  # seconds between two lines; a few, unless the machine is very busy
SHOWN = re.compile(
    r"""production's\ web,\ on\ h3\ requests\ http://api.railway.internal:8080\n
        (?:\ +\[fd12:.*\]\ +api/a[12]\ of\ production,\ on\ h[12]\ .*\n){2,}
        \nstaging's\ web,\ on\ h1\ requests\ the\ same\ name,\ and\ has\ its\ own:\n
        \ +\[fd12:.*\]\ +api/a1\ of\ staging,\ on\ h2\ .*\n
        \n.*by\ its\ name\ and\ by\ its\ address:\n
        \ +a2.api.railway.internal\ +no\ connection:.*\n
        \ +fd12:.*\ no\ connection:.*\n""",
    re.VERBOSE,
)


def test_it_is_shown_can_be_looked_at_and_ends_with_ctrl_c() -> None:
    before = _machine()
    with started(*interlock("demo", "mesh")) as demo:
        _read_until(demo, "Ctrl-C ends it")
        assert SHOWN.search(demo.output), demo.output
        assert "Each host says (interlock mesh): no problems\n" in demo.output
        entering = re.search(r"^  (nsenter .* /run/sandbox/on) h1 interlock mesh$", demo.output, re.MULTILINE)
        assert entering
        view = run(*entering[1].split(), "h1", "interlock", "mesh", "--json")
        assert {peer["host"] for peer in json.loads(view.stdout)["peers"]} == {"h2", "h3"}, view
        for host in ("h1", "h2", "h3"):  # the product's own demo is well
            examined = run(*entering[1].split(), host, "interlock", "doctor", "--json")
            assert json.loads(examined.stdout)["cause"] is None, examined
        asked = run(*entering[1].split(), "production-web", "interlock", "query", "api", "--json")
        assert json.loads(asked.stdout)["rcode"] == "NOERROR", asked
        client = "from urllib.request import urlopen as get; print(get('http://api.railway.internal:8080').read())"
        asked = run(*entering[1].split(), "staging-web", "python3", "-c", client)
        assert "api/a1 of staging, on h2" in asked.stdout, asked
        inside = _inside(demo)
        assert len(inside) > 15
        assert demo.end(signal.SIGINT) == 0
        assert not _alive(inside)
    assert _machine() == before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_signal_at_any_time_ends_all_of_it(number: signal.Signals) -> None:
    before = _machine()
    with started(*interlock("demo", "mesh")) as demo:
        _read_until(demo, "the control plane is ready")
        inside = _inside(demo)
        assert inside
        assert demo.end(number) == (-9 if number == signal.SIGKILL else 0)
        wait_until(lambda: not _alive(inside))
    assert _machine() == before


def test_an_error_is_one_line_and_ends_all_of_it(tmp_path: Path) -> None:
    """The second host cannot be made."""
    real = shutil.which("ip", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    fails = 'case "$*" in *-h2-*) echo no second host >&2; exit 1 ;; esac'
    (tmp_path / "ip").write_text(f'#!/bin/sh\n{fails}\nexec {real} "$@"\n')
    (tmp_path / "ip").chmod(0o755)
    before = _machine()
    environ = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    with started(*interlock("demo", "mesh"), environ=environ) as demo:
        assert _end_of(demo) == 1
        assert demo.errors == "interlock: a network namespace cannot be made: no second host\n"
    assert _machine() == before


def test_another_user_runs_it_in_a_user_namespace(tmp_path: Path) -> None:
    """/dev/net/tun is for all users on most machines, and Python too: here it is made so, in a mount namespace."""
    user = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *interlock("demo", "mesh", "--once"))
    for mode in ("600", "666"):
        script = f'set -e; {_opened(tmp_path)} mknod -m {mode} /dev/net/tun c 10 200; exec "$@"'
        enter = ("unshare", "--mount", "sh", "-c", script, "sh")
        with started(*enter, *user, environ={"HOME": "/nonexistent"}) as demo:
            status = _end_of(demo)
            errors = demo.errors
        if "user namespaces" in errors:
            pytest.skip(errors)
        if mode == "600" and not wireguard.why_not("kernel"):
            continue
        if mode == "600":
            assert status == 1
            assert errors.startswith("interlock: wireguard-go needs /dev/net/tun, which this user cannot open: ")
        else:
            assert status == 0, demo.output + errors
            assert SHOWN.search(demo.output), demo.output


def _opened(directory: Path) -> str:
    """Commands that let every user reach this Python and this clone, in a mount namespace, and empty /dev/net."""
    places = [Path(sys.base_prefix), Path(sys.prefix), ROOT]
    above = [[one for one in place.parents if not one.stat().st_mode & 1] for place in places]
    closed = sorted({ones[-1] for ones in above if ones})
    lines = ["mount -t tmpfs dev /dev/net"]
    for number, place in enumerate(places):
        (directory / str(number)).mkdir(exist_ok=True)
        lines.append(f"mount --bind {place} {directory / str(number)}")
    lines += [f"mount -t tmpfs -o mode=755 root {place}" for place in closed]
    for number, (place, ones) in enumerate(zip(places, above, strict=True)):
        lines += [f"mkdir -p {place}", f"mount --bind {directory / str(number)} {place}"] if ones else []
    return "".join(f"{line}; " for line in lines)


def _read_until(demo: Running, text: str) -> None:
    while text not in demo.output:
        assert demo.read_more(DEADLINE), demo.output + demo.errors


def _end_of(demo: Running) -> int:
    while demo.read_more(DEADLINE):
        pass
    return demo.wait()


def _inside(demo: Running) -> set[tuple[int, int]]:
    """The processes in the namespaces of ``demo``: the id of each, and when it was started."""
    children = defaultdict[int, list[int]](list)  # /proc/PID/task/TID/children is not in each kernel
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            children[int((path / "stat").read_text().rpartition(")")[2].split()[1])].append(int(path.name))
    found, seen = set(), [demo.pid]
    for pid in seen:
        seen += children[pid]
        with suppress(OSError):
            found.add((pid, _start(pid)))
    return {one for one in found if one[0] != demo.pid}


def _alive(processes: set[tuple[int, int]]) -> set[tuple[int, int]]:
    alive = set()
    for pid, start in processes:
        with suppress(OSError):
            alive |= {(pid, start)} if _start(pid) == start else set()
    return alive


def _start(pid: int) -> int:
    """When a process was started. Raises ``OSError`` where it has ended, also where nobody has waited for it yet."""
    state, *words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    if state == "Z":
        raise ProcessLookupError
    return int(words[18])


def _machine() -> Mapping[str, object]:
    """What a demo could leave behind: links, mounts, files in /run and in the folder of temporary ones."""
    return {
        "links": subprocess.run(["ip", "-brief", "link"], capture_output=True, text=True).stdout,
        "mounts": [line for line in Path("/proc/self/mounts").read_text().splitlines() if "/run/netns/" not in line],
        "run": sorted(path.name for path in Path("/run").iterdir()),
    }
