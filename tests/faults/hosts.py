"""Hosts for the tests of faults: a mesh of two, ready, whose agents are killed, deceived and copied."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.mesh import mesh as meshes
from tests.mesh import topology
from tests.mesh.mesh import Mesh

HOSTS = ("h1", "h2")


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """Two hosts, ready. Tests add environments of their own, and leave the hosts as they found them."""
    if reason := topology.why_not():
        pytest.skip(f"no mesh of hosts: {reason}")
    with meshes.running(tmp_path_factory.mktemp("hosts")) as mesh:
        mesh.add(*HOSTS)
        yield mesh
