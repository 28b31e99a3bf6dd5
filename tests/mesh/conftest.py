"""Fixtures of all tests of the mesh: one mesh of four hosts, which take seconds to start, and the test programs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests import wireguard
from tests.clients.builds import Build, Unavailable
from tests.mesh import mesh as meshes
from tests.mesh import talking, topology
from tests.mesh.mesh import Mesh

collect_ignore = ["test_both_devices.py"] if wireguard.is_left_to_guest() else []
HOSTS = ("h1", "h2", "h3", "h4")


@pytest.fixture(scope="package", params=wireguard.available() or ["auto"])
def mesh(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """Four hosts that are ready. Each test adds its own environments, and leaves the hosts as it found them.

    Where there are two kinds of WireGuard, the tests run on one after the other.
    """
    _needs_hosts()
    with meshes.running(tmp_path_factory.mktemp("mesh"), request.param) as mesh:
        mesh.add(*HOSTS)
        yield mesh


@pytest.fixture(scope="package")
def programs() -> dict[str, Build]:
    """The test program, built with each C library."""
    _needs_hosts()
    try:
        return talking.programs()
    except Unavailable as error:
        pytest.skip(f"the test program cannot be built: {error}")


def _needs_hosts() -> None:
    if reason := topology.why_not():
        pytest.skip(f"no mesh of hosts: {reason}")
