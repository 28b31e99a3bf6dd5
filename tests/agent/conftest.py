"""What the tests of the agent share: a namespace, and a control plane with the connection of h1 to it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from agent.control_plane.connection import ControlPlane
from agent.control_plane.credential import CredentialFiles, HostKey
from tests.agent.control_plane.plane import Plane, Signer, connected, running
from tests.agent.inside import space

__all__ = ["space"]


@pytest.fixture
def authority() -> Signer:
    return Signer()


@pytest.fixture
def files(authority: Signer, tmp_path: Path) -> CredentialFiles:
    """The credential of h1."""
    directory = tmp_path / "state"
    directory.mkdir()
    files, key = CredentialFiles(directory), HostKey.make("h1")
    files.make_room(authority.pem)
    files.keep(key, authority.certify("h1", key.request))
    return files


@pytest_asyncio.fixture
async def plane(authority: Signer, tmp_path: Path) -> AsyncIterator[Plane]:
    """A control plane that runs."""
    async with running(Plane(authority), tmp_path) as plane:
        yield plane


@pytest_asyncio.fixture
async def control(plane: Plane, files: CredentialFiles) -> AsyncIterator[ControlPlane]:
    """The connection of h1 to ``plane``."""
    async with connected(files, plane.url) as (control, _):
        yield control


@pytest_asyncio.fixture
async def away(files: CredentialFiles) -> AsyncIterator[ControlPlane]:
    """The connection of h1 to a control plane that does not run."""
    async with connected(files, "https://127.0.0.1:9") as (control, _):
        yield control
