"""``interlock up --mesh``: a machine that is all of the platform, so that a workload is attached in two commands."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from interlock.sandbox.node import Program
from tests.interlock.processes import ROOT, interlock, run, unprivileged
from tests.mesh import topology
from tests.mesh.mesh import START_DEADLINE, until
from tests.mesh.topology import Host

pytestmark = pytest.mark.skipif(bool(topology.why_not()), reason=f"no mesh of hosts: {topology.why_not()}")

LOOK_UP = "import socket; print({found[4][0] for found in socket.getaddrinfo('api.railway.internal', 80)})"


@pytest.fixture
def machine() -> Iterator[Host]:
    with topology.underlay() as joined:
        yield joined.host("h1")


def test_a_workload_is_attached_in_two_commands_and_stays_when_up_is_killed(machine: Host, tmp_path: Path) -> None:
    command = interlock(
        "up", "--mesh", "--host", "h1", "--demo", "--upstream", "none", "--state-dir", str(tmp_path / "state")
    )
    up = Program(command, tmp_path / "log", machine.popen)
    _start(up)
    _type_the_guide(machine)
    web = machine.workload("web")
    attach = interlock(
        "attach", "-e", "demo", "--service", "api", "--instance", "there",
        "--netns", web.path, "--resolv-conf", str(web.resolv_conf),
    )  # fmt: skip
    done = machine.run(attach)
    address = done.stdout.split()[0]
    assert address in web.run([sys.executable, "-c", LOOK_UP]).stdout
    listed = machine.run(interlock("host", "list", "--state-dir", str(tmp_path / "state")))
    assert "h1" in listed.stdout
    assert not (tmp_path / "state/enrol").exists()
    up.kill()
    # Its children end with it, and the mesh stays as it is.
    until(lambda: not _programs(machine), lambda: f"still there: {_programs(machine)}")
    assert machine.run(["ip", "link", "show", "interlock0"]).returncode == 0
    _start(up)
    assert "is attached already" in machine.run(attach).stdout
    assert address in web.run([sys.executable, "-c", LOOK_UP]).stdout
    assert "1 workloads were detached" in machine.run(interlock("host", "leave")).stdout
    until(lambda: machine.run(["ip", "link", "show", "interlock0"], check=False).returncode, "the device is there")
    assert up.is_running
    assert up.stop() == 0
    assert not _programs(machine)


def test_it_needs_root(tmp_path: Path) -> None:
    ended = run(*unprivileged(*interlock("up", "--mesh", "--host", "h1", "--state-dir", str(tmp_path))))
    assert ended.returncode == 1
    assert ended.stderr.startswith(
        "interlock: 'interlock up --mesh' changes the network of this machine: run it as root"
    )


def test_the_port_of_the_workloads_resolver_is_taken_by_nobody_else(tmp_path: Path) -> None:
    taken = ("--dns-listen", "[::]:53")
    ended = run(*interlock("up", "--mesh", "--host", "h1", *taken, "--state-dir", str(tmp_path)))
    assert ended.returncode == 78
    assert "--dns-listen" in ended.stderr


def _type_the_guide(machine: Host) -> None:
    """Runs what docs/mesh.md says to type beside ``interlock up --mesh --demo``, and detaches the workload again."""
    section = (ROOT / "docs/mesh.md").read_text().partition("\n## On one machine\n")[2].partition("\n## ")[0]
    lines = [line.strip() for line in section.splitlines() if line.startswith("    ")]
    assert lines[1] == "interlock up --mesh --demo"
    command = f'set -e; interlock() {{ {shlex.join(interlock())} "$@"; }}\n' + "\n".join(lines[2:])
    try:
        assert "fd12:" in machine.run(["sh", "-c", command]).stdout.splitlines()[-1]
    finally:
        machine.run(interlock("detach", "-e", "demo", "--service", "api", "--instance", "here"))
        machine.run(["ip", "netns", "delete", "api"])


def _start(up: Program) -> None:
    before = up.log.count("Interlock is ready")
    up.start()
    until(
        lambda: up.log.count("Interlock is ready") > before or not up.is_running, lambda: up.log[-3000:], START_DEADLINE
    )
    assert up.is_running, up.log[-3000:]


def _programs(machine: Host) -> str:
    return machine.run(["pgrep", "--full", "--list-full", "-m interlock"], check=False).stdout
