"""`interlock snapshot`: what is in the state directory, and whether it is whole."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from store.changes import Position
from tests import worlds
from tests.interlock.processes import run_here
from watcher.snapshot import Contents, Header, write_snapshot
from zones import document

HEADER = Header("the store", "0.1.0", 1_700_000_000.0, epoch="e1", change="7-1")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The snapshot of a resolver, which was current two hours ago."""
    path = tmp_path / "resolver.snapshot"
    environment = worlds.production()
    kept = {environment.id: (document.digest(document.encode(environment)), environment)}
    write_snapshot(path, HEADER, Contents(kept, Position("e1", "7-1")), 1 << 20)
    os.utime(path, (time.time(), time.time() - 7300))
    return path


def test_it_says_how_old_a_snapshot_is(path: Path) -> None:
    status, out, _ = run_here("snapshot", "show", "--state-dir", str(path.parent))
    assert status == 0
    heading, line = out.splitlines()
    assert heading.split() == ["FILE", "PROBLEM", "ENVIRONMENTS", "HOSTS", "AGE", "OCTETS", "RELEASE", "SOURCE"]
    octets = str(path.stat().st_size)
    assert line.split() == [str(path), "-", "1", "-", "2", "h", octets, "0.1.0", "the", "store"]
    _, out, _ = run_here("snapshot", "show", "--json", str(path))
    (shown,) = json.loads(out)
    assert (shown["epoch"], shown["change"], shown["problem"]) == ("e1", "7-1", "")


def test_it_names_what_is_wrong_with_one(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])
    (path.parent / "agent.snapshot").mkdir()
    status, out, err = run_here("snapshot", "show", "--state-dir", str(path.parent))
    assert status == 1
    assert "2 of 2 cannot be used" in err
    assert "agent.snapshot     it cannot be read: Is a directory" in out
    assert "it is cut short or was altered" in out


def test_it_prints_an_environment(path: Path) -> None:
    _, out, _ = run_here("snapshot", "show", "--environment", "production", "--state-dir", str(path.parent))
    (shown,) = json.loads(out)
    assert shown["document"]["id"] == "production"
    status, _, err = run_here("snapshot", "show", "--environment", "other", "--state-dir", str(path.parent))
    assert status == 1
    assert "has the environment 'other'" in err


def test_without_one_it_says_where_it_looked(tmp_path: Path) -> None:
    status, _, err = run_here("snapshot", "show", "--state-dir", str(tmp_path))
    assert status == 1
    assert f"there is no snapshot in {tmp_path}" in err
