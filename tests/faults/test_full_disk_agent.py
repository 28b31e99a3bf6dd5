"""The disk of a host is full at each write of its agent: what cannot be kept is not begun, and nothing is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from agent.control.client import Refusal
from tests.mesh.mesh import Mesh, Node, until
from tests.mesh.topology import Workload

ENVIRONMENT = "full-disk"
PAGE = 4096  # octets; each file of the agent takes one
PAGES = 64  # of the whole disk
FILLER = "filler"
FULL = "No space left on device"

_numbers = count(1)


@pytest.fixture
def node(hosts: Mesh) -> Iterator[Node]:
    """A host on which nothing runs yet, whose state directory is a small disk of its own."""
    hosts.environment(ENVIRONMENT, "api")
    made = hosts.boot(f"small{next(_numbers)}")
    made.state.mkdir()
    made.host.run(["mount", "-t", "tmpfs", "-o", f"size={PAGES * PAGE}", "small", str(made.state)])
    yield made
    hosts.remove(made)
    hosts.client.delete("environments", ENVIRONMENT)


def fill(node: Node, free: int) -> None:
    """Fills the disk, but for ``free`` pages."""
    make_room(node)
    node.host.call(lambda: _write_until_full(node.state / FILLER, free))


def make_room(node: Node) -> None:
    node.host.run(["rm", "-f", str(node.state / FILLER)])


def _write_until_full(path: Path, free: int) -> None:
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"\0" * PAGE)
        except OSError:
            file.truncate(max(0, file.tell() // PAGE * PAGE - free * PAGE))


def files(node: Node) -> list[str]:
    found = node.host.run(["find", str(node.state), "-type", "f", "-printf", "%f\n"]).stdout.split()
    return sorted(name for name in found if name != FILLER)


def instances(hosts: Mesh) -> set[str]:
    found = hosts.client.get("environments", ENVIRONMENT, "services", "api")["instances"]
    return {one["id"] for one in found}


def is_connected(workload: Workload) -> bool:
    return "railnet0" in workload.run(["ip", "-brief", "link", "show"]).stdout


def refused(request: Callable[[], object]) -> str:
    """Why ``request`` was refused; empty if it was not."""
    try:
        request()
    except Refusal as refusal:
        return str(refusal)
    return ""


@pytest.mark.parametrize("free", [0, 1, 2])
def test_an_agent_starts_or_says_why_not(hosts: Mesh, node: Node, free: int) -> None:
    """Its key, its incarnation, the folder of its attachments."""
    fill(node, free)
    node.start()
    until(lambda: node.is_ready or not node.agent.is_running, lambda: f"neither: {node.agent.log[-2000:]}")
    if not node.agent.is_running:
        assert "No space left on device" in node.agent.log
        assert "Traceback" not in node.agent.log
        make_room(node)
        node.agent.start()
    make_room(node)
    node.until_ready()
    node.ask("leave")
    until(lambda: not node.agent.is_running, "it goes on")


def test_each_write_of_an_agent_that_runs(hosts: Mesh, node: Node) -> None:
    node.start()
    node.until_ready()
    fill(node, PAGES)
    kept = node.attach(ENVIRONMENT, "api", "kept")
    settled = [name for name in files(node) if "snapshot" not in name]

    for free in range(3):
        workload = node.workload()
        fill(node, free)
        refusal = refused(lambda workload=workload: node.attach(ENVIRONMENT, "api", "new", workload))  # type: ignore[misc]
        is_attached = not refusal
        assert FULL in refusal or (is_attached and free)
        assert ("new" in instances(hosts)) == is_attached
        assert is_connected(workload) == is_attached
        fill(node, 0)
        assert node.detach(ENVIRONMENT, "api", "new") == is_attached  # also on a full disk
        assert not is_connected(workload)
        assert instances(hosts) == {"kept"}
        workload.remove()

        fill(node, free)
        before = node.ask("mesh")["public_key"]
        refusal = refused(lambda: node.ask("rotate"))
        assert FULL in refusal or (not refusal and free)
        assert (node.ask("mesh")["public_key"] == before) == bool(refusal)
        make_room(node)
        assert [name for name in files(node) if "snapshot" not in name] == settled

    fill(node, 0)
    node.agent.kill()
    node.agent.start()
    until(lambda: node.is_ready, lambda: f"it does not start on a full disk: {node.agent.log[-2000:]}")
    assert is_connected(kept)
    assert instances(hosts) == {"kept"}
    make_room(node)
    assert node.detach(ENVIRONMENT, "api", "kept")
    assert "Traceback" not in node.agent.log
    kept.remove()
    node.ask("leave")
    until(lambda: not node.agent.is_running, "it goes on")
