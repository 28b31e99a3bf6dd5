"""The guest is a machine as the tests need one, leaves this one as it is, and the kernel's WireGuard passes in it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.vm import machine
from tests.vm.machine import ROOT
from tests.waiting import VARIABLE, scaled

MISSING = machine.why_not()
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"no machine with a kernel of its own: {MISSING}")

SUITE_DEADLINE = scaled(290.0)  # seconds; the longer of the two takes about one minute on a machine that is not busy


def sh(script: str, *arguments: str, **options: Path | str) -> subprocess.CompletedProcess[str]:
    """What ``script`` does inside, with ``arguments`` as ``$1`` and so on."""
    return machine.run(["sh", "-c", script, "sh", *arguments], **options)  # type: ignore[arg-type]


# The machine


def test_a_command_runs_inside_and_its_output_and_status_come_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OF_THE_TEST", "it's\n$HOME")
    found = sh(
        'printf "%s|" "$(uname -n)" "$(id -u)" "$PWD" "$OF_THE_TEST" "$@"; echo error >&2; exit 7',
        "two words", "quotes: ' \" `", "", "lines\n\tand $HOME",
    )  # fmt: skip
    words = ["vm", "0", str(ROOT), "it's\n$HOME", "two words", "quotes: ' \" `", "", "lines\n\tand $HOME"]
    assert found.stdout == "|".join([*words, "error\n"])
    assert found.returncode == 7


def test_its_kernel_has_what_this_one_may_lack() -> None:
    found = sh("""
        set -e
        ip link add wg0 type wireguard
        ip link add left type veth peer name right
        ip link add br0 type bridge
        ip netns add other
        ip -6 rule add table 100
        nft add table inet filter
        test -c /dev/net/tun
        wg show wg0 listen-port
    """)
    assert found.returncode == 0, found.stdout


def test_deadlines_are_longer_inside() -> None:
    found = machine.run([".venv/bin/python", "-c", "from tests.waiting import SLOWNESS; print(SLOWNESS > 1)"])
    assert found.stdout == "True\n", f"see {VARIABLE}"


def test_its_memory_can_be_set() -> None:
    found = sh("sed -n 's/^MemTotal: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo", memory="512M")
    assert 400 << 10 < int(found.stdout) < 512 << 10


def test_what_is_written_inside_is_lost_but_for_the_folder_that_is_to_be_kept(tmp_path: Path) -> None:
    lost, kept = tmp_path / "lost", tmp_path / "kept"
    for folder in (lost, kept):
        folder.mkdir()
        (folder / "changed").write_text("before")
        (folder / "removed").write_text("before")
    script = 'for one; do cd "$one"; echo after >changed; rm removed; echo new >new; grep -r . "$one"; done'
    found = sh(script, str(lost), str(kept), out=kept)
    # Inside, both were written; so that the first is as it was is due to the guest.
    for folder in (lost, kept):
        assert {f"{folder}/changed:after", f"{folder}/new:new"} <= set(found.stdout.splitlines())
    assert contents(lost) == {"changed": "before", "removed": "before"}
    assert contents(kept) == {"changed": "after\n", "new": "new\n"}


def test_a_change_of_the_project_is_not_seen_inside(tmp_path: Path) -> None:
    project, out = tmp_path / "project", tmp_path / "out"
    shutil.copytree(machine.RUN.parent, project / "tests" / "vm")
    shutil.copy(machine.RUN.parents[1] / "packages.sh", project / "tests")
    (project / ".venv").mkdir()
    for name in ("changed", ".venv/changed", "removed"):
        (project / name).write_text("before\n")
    out.mkdir()
    script = "echo started; until [ -e $0/changed ]; do sleep 0.1; done; cat changed removed new .venv/changed"
    command = [str(project / "tests" / "vm" / "run"), "--out", str(out), "sh", "-c", script, str(out)]
    with ended(subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=project)) as process:
        assert process.stdout
        assert process.stdout.readline() == "started\n"
        (project / "changed").write_text("after\n")
        (project / "removed").unlink()
        (project / "new").write_text("after\n")
        (out / "changed").touch()
        found, _ = process.communicate(timeout=machine.DEADLINE)
    assert found == "before\nbefore\ncat: new: No such file or directory\nbefore\n"


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_a_guest_that_ends_early_is_not_taken_for_a_command_that_succeeded() -> None:
    found = sh("echo o >/proc/sysrq-trigger; sleep 60")
    assert found.returncode == 125
    assert "the guest ended before the command did" in found.stdout


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL], ids=lambda number: number.name)
def test_a_signal_ends_the_guest(number: signal.Signals) -> None:
    # A shell that is started in the background without job control does not see SIGINT: hence the handler.
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with busy_guest() as process:
            guest = guests_of(process.pid)
            process.send_signal(number)
            process.wait(scaled(10))
    finally:
        signal.signal(signal.SIGINT, handler)
    assert process.returncode != 0
    wait_until_gone(guest)


def test_when_its_kernel_is_killed_no_process_of_the_guest_goes_on_as_one_of_this_machine() -> None:
    with busy_guest() as process:
        guest = guests_of(process.pid)
        processes = [pid for pid in guest if tracer_of(pid)]
        (kernel,) = {tracer_of(pid) for pid in processes}
        process.send_signal(signal.SIGSTOP)  # so that it is not `run` that ends them
        try:
            os.kill(kernel, signal.SIGKILL)
            wait_until_gone(processes)
        finally:
            process.send_signal(signal.SIGCONT)
        assert process.wait(scaled(10)) == 125
    wait_until_gone(guest)  # the kernel's own helpers as well


def test_what_a_kernel_leaves_behind_in_its_session_is_killed(tmp_path: Path) -> None:
    kernel, left = tmp_path / "kernel", tmp_path / "left"
    kernel.write_text(f"#!/bin/sh\nsleep 1000 &\necho $! >{left}\n")
    kernel.chmod(0o755)
    done = subprocess.run([machine.RUN, "--kernel", kernel, "true"], capture_output=True, timeout=scaled(10))
    assert done.returncode == 125
    wait_until_gone([int(left.read_text())])


@contextmanager
def busy_guest() -> Iterator[subprocess.Popen[str]]:
    """A `run` whose guest computes, and asks its kernel for nothing, until it is ended."""
    command = [str(machine.RUN), "sh", "-c", "echo started; while :; do :; done"]
    with ended(subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)) as process:
        assert process.stdout
        assert process.stdout.readline() == "started\n"
        yield process


@contextmanager
def ended(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    """``process`` for the length of a with-statement; a `run` that still goes on then is ended, with its guest."""
    with process:
        try:
            yield process
        finally:
            process.terminate()


def wait_until_gone(pids: Sequence[int]) -> None:
    deadline = time.monotonic() + scaled(10)
    while left := [pid for pid in pids if is_running(pid)]:
        assert time.monotonic() < deadline, f"these still run: {left}"
        time.sleep(0.01)


def tracer_of(pid: int) -> int:
    """The process that holds the system calls of ``pid`` by ptrace; 0 if none does."""
    (found,) = re.findall(r"^TracerPid:\t(\d+)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return int(found)


def is_running(pid: int) -> bool:
    """Whether there is such a process, and it has not ended: one whose parent has yet to ask for its end has."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def guests_of(pid: int) -> list[int]:
    """The processes below ``pid``, its own apart: its guest's kernel and what runs in it."""
    parents = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(entry.parent.name)] = int(entry.read_text().rpartition(")")[2].split()[1])
        except OSError:  # it has just ended
            continue
    found = [pid]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found[1:]


# The suites that run inside


def test_the_device_suite_passes_on_the_device_of_the_kernel(tmp_path: Path) -> None:
    suites = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "tests" / "agent").rglob("test_devices.py"))
    assert suites
    results = run_suite(tmp_path, *suites)
    kernel = {name: result for name, result in results.items() if "[kernel" in name}
    assert len(kernel) >= 9  # how many there were when this was written
    assert {name: result for name, result in kernel.items() if result != "passed"} == {}
    assert {name: result for name, result in results.items() if result.startswith("failed")} == {}


def test_a_mesh_of_both_devices_passes(tmp_path: Path) -> None:
    results = run_suite(tmp_path, "tests/mesh/test_both_devices.py")
    assert len(results) >= 9  # how many there were when this was written
    assert {name: result for name, result in results.items() if result != "passed"} == {}


def run_suite(folder: Path, *arguments: str) -> dict[str, str]:
    """What became of each test when pytest ran inside: ``passed``, or ``failed`` or ``skipped`` with the reason."""
    report = folder / "junit.xml"
    command = [".venv/bin/python", "-m", "pytest", "-p", "no:cacheprovider", f"--junitxml={report}", *arguments]
    done = machine.run(command, out=folder, memory="4G", deadline=SUITE_DEADLINE)
    assert report.exists(), done.stdout
    print(done.stdout)
    return {case.attrib["name"]: outcome(case) for case in ElementTree.parse(report).iter("testcase")}


def outcome(case: ElementTree.Element) -> str:
    for kind, word in (("failure", "failed"), ("error", "failed"), ("skipped", "skipped")):
        if (found := case.find(kind)) is not None:
            return f"{word}: {found.get('message')}"
    return "passed"
