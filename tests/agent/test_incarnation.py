"""The incarnation of an agent: the same when it is started again in its place, another one anywhere else."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from agent.incarnation import FILE, load_incarnation, remove_incarnation


async def test_it_is_kept_in_its_place(tmp_path: Path) -> None:
    first, is_known = await load_incarnation(tmp_path)
    assert (len(first.split()), is_known) == (1, False)
    assert await load_incarnation(tmp_path) == (first, True)
    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600


@pytest.mark.parametrize(("field", "value"), [("boot", "another"), ("cookie", 0), ("inode", 1)])
async def test_a_copy_in_another_place_is_another(tmp_path: Path, field: str, value: object) -> None:
    first, _ = await load_incarnation(tmp_path)
    kept = json.loads((tmp_path / FILE).read_text())
    kept["place"][field] = value
    (tmp_path / FILE).write_text(json.dumps(kept))
    second, is_known = await load_incarnation(tmp_path)
    assert (second != first, is_known) == (True, False)
    assert await load_incarnation(tmp_path) == (second, True)


@pytest.mark.parametrize("content", [b"", b"{", b'{"incarnation": 1}'])
async def test_a_file_that_cannot_be_read_makes_a_new_one(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE).write_bytes(content)
    drawn, is_known = await load_incarnation(tmp_path)
    assert not is_known
    assert await load_incarnation(tmp_path) == (drawn, True)


async def test_on_a_full_disk_it_is_good_for_as_long_as_the_agent_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    drawn, is_known = await load_incarnation(tmp_path)
    assert (bool(drawn), is_known) == (True, False)
    assert [record.message for record in caplog.records] == ["incarnation_not_kept"]
    assert os.listdir(tmp_path) == []


async def test_a_host_that_has_left_has_none(tmp_path: Path) -> None:
    await load_incarnation(tmp_path)
    remove_incarnation(tmp_path)
    remove_incarnation(tmp_path)
    assert os.listdir(tmp_path) == []


async def test_one_that_was_being_written_when_the_agent_was_killed_is_removed(tmp_path: Path) -> None:
    (tmp_path / f".{FILE}.0123456789ab").touch()
    await load_incarnation(tmp_path)
    assert os.listdir(tmp_path) == [FILE]
