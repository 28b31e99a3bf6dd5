"""An authority, and the credential of a host that it has certified."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from agent.control_plane.credential import CredentialFiles, HostKey
from tests.agent.control_plane.plane import Plane, Signer, running


@pytest.fixture
def authority() -> Signer:
    return Signer()


@pytest.fixture
def files(authority: Signer, tmp_path: Path) -> CredentialFiles:
    """The credential of h1."""
    directory = tmp_path / "state"
    directory.mkdir()
    files, key = CredentialFiles(directory), HostKey.make("h1")
    files.keep(key, authority.certify("h1", key.request), authority.pem)
    return files


@pytest_asyncio.fixture
async def plane(authority: Signer, tmp_path: Path) -> AsyncIterator[Plane]:
    """A control plane that runs."""
    async with running(Plane(authority), tmp_path) as plane:
        yield plane
