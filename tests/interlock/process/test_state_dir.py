"""The state directory: what keeps it from being used is one line. `test_embedded` tests its lock."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from interlock.errors import StateDirectoryUnusable
from interlock.process.state_dir import make_state_directory
from tests.interlock.keeper import keeper
from tests.interlock.processes import NOBODY, run, unprivileged


def test_a_file_in_its_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")
    with pytest.raises(StateDirectoryUnusable, match="cannot be used: File exists: correct that, or choose another"):
        make_state_directory(tmp_path / "state")


def test_another_users_directory_is_refused(tmp_path: Path) -> None:
    command = unprivileged(*keeper(Path("/usr")))
    refused = run(*command)
    user = os.getuid() or NOBODY
    assert refused.stderr == (
        f"StateDirectoryUnusable: state directory /usr cannot be used: user {user} may not write to it:"
        " correct that, or choose another with --state-dir\n"
    )
