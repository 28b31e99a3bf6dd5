"""Whose a state directory is."""

from __future__ import annotations

from pathlib import Path

import pytest

from interlock.errors import StateDirectoryUnusable
from interlock.process import state_dir
from interlock.process.state_dir import held_alone, locked


def test_two_agents_do_not_have_one_state_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_dir, "HOLD_DEADLINE", 0.05)
    with (
        held_alone(tmp_path),
        locked(tmp_path),  # a store may be there beside it
        pytest.raises(StateDirectoryUnusable, match="another agent runs with the state directory"),
        held_alone(tmp_path),
    ):
        pass
    with held_alone(tmp_path):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]  # it leaves no file of its own


def test_one_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StateDirectoryUnusable, match="No such file"), held_alone(tmp_path / "missing"):
        pass
