"""The snapshot on disk: written whole, checked to its last octet, and never used where it is not what it should be."""

from __future__ import annotations

import asyncio
import os
import random
import stat
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Hashable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from store.changes import Position
from tests import worlds
from tests.waiting import cancel, scaled, until
from tests.watcher.harness import Recorder
from tests.worlds import PLATFORM, PRODUCTION, STAGING
from watcher import keeper as keeping
from watcher.errors import SnapshotTooLarge, SnapshotUnusable
from watcher.keeper import SnapshotKeeper, restore
from watcher.publisher import ServedZones
from watcher.snapshot import Contents, Header, Snapshot, confirm_snapshot, open_snapshot, write_snapshot
from zones import document
from zones.edits import Edit, PutInstance, PutService
from zones.hosts import Hosts
from zones.model import Environment
from zones.names import EnvironmentId

LIMIT = 1 << 20
HEADER = Header("the store", "0.1.0", 1_700_000_000.5, epoch="e1", change="7-1", hosts_revision=3)
HOSTS = Hosts(3, {"h1": worlds.make_host(1), "h2": worlds.make_host(2)}, {})
WORLD = (worlds.production(), worlds.staging())


def contents(*environments: Environment, hosts: Hosts | None = HOSTS) -> Contents:
    kept = {each.id: (document.digest(document.encode(each)), each) for each in environments or WORLD}
    return Contents(kept, Position("e1", "7-1"), hosts)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A snapshot of `WORLD`."""
    path = tmp_path / "state" / "resolver.snapshot"
    write_snapshot(path, HEADER, contents(), LIMIT)
    return path


def opened(path: Path, limit: int = LIMIT) -> Snapshot:
    snapshot = open_snapshot(path, limit)
    assert snapshot
    return snapshot


def test_what_was_written_is_read(path: Path) -> None:
    snapshot = opened(path)
    assert snapshot.header == HEADER
    assert snapshot.position == Position("e1", "7-1")
    assert snapshot.hosts == HOSTS
    assert [document.decode(snapshot.read(each.id)) for each in WORLD] == list(WORLD)
    assert snapshot.digests == {each.id: document.digest(document.encode(each)) for each in WORLD}
    assert snapshot.revisions == {each.id: each.revision for each in WORLD}
    assert snapshot.octets == path.stat().st_size
    assert EnvironmentId("other") not in snapshot


def test_only_this_user_can_read_it(path: Path) -> None:
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_none_is_no_error(tmp_path: Path) -> None:
    assert open_snapshot(tmp_path / "none", LIMIT) is None


def test_the_time_of_the_file_says_when_it_was_current(path: Path) -> None:
    os.utime(path, (1.0, 1_700_000_000.0))
    assert opened(path).confirmed == 1_700_000_000.0
    before = time.time()
    confirm_snapshot(path)
    assert opened(path).confirmed >= before - 1


# What is not whole is not used


def test_one_that_is_cut_anywhere_is_not_used(path: Path) -> None:
    whole = path.read_bytes()
    for length in {0, 1, *random.Random(1).sample(range(len(whole)), 200), len(whole) - 1}:
        path.write_bytes(whole[:length])
        with pytest.raises(SnapshotUnusable):
            open_snapshot(path, LIMIT)


def test_one_with_a_flipped_bit_is_not_used(path: Path) -> None:
    whole = path.read_bytes()
    for bit in random.Random(2).sample(range(8 * len(whole)), 400):
        altered = bytearray(whole)
        altered[bit // 8] ^= 1 << bit % 8
        path.write_bytes(altered)
        with pytest.raises(SnapshotUnusable):
            open_snapshot(path, LIMIT)


@pytest.mark.parametrize("more", [b"\n", b"environment x 1 d {}\n", b"end 00\n"])
def test_one_that_goes_on_after_its_end_is_not_used(path: Path, more: bytes) -> None:
    path.write_bytes(path.read_bytes() + more)
    with pytest.raises(SnapshotUnusable, match="cut short or was altered"):
        open_snapshot(path, LIMIT)


@pytest.mark.parametrize("content", [b"", b"\0" * 4096, os.urandom(4096), b"interlock snapshot 2\n{}\nend 00\n"])
def test_another_file_or_form_is_not_used(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(SnapshotUnusable, match="no snapshot of a form that this release reads"):
        open_snapshot(path, LIMIT)


def test_what_a_newer_release_adds_to_the_header_is_ignored(path: Path) -> None:
    header = b'{"source":"the store","release":"9.0","taken":1.0,"new":[1]}\n'
    written = b"interlock snapshot 1\n" + header
    path.write_bytes(written + b"end " + document.digest(written).encode() + b"\n")
    assert opened(path).header.release == "9.0"


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo], ids=["folder", "pipe"])
def test_what_is_no_file_is_not_used(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "odd")
    with pytest.raises(SnapshotUnusable):
        open_snapshot(tmp_path / "odd", LIMIT)


def test_one_that_is_too_large_is_neither_read_nor_written(path: Path) -> None:
    before, size = path.read_bytes(), path.stat().st_size
    with pytest.raises(SnapshotUnusable, match="--snapshot-limit"):
        open_snapshot(path, size - 1)
    with pytest.raises(SnapshotTooLarge, match="--snapshot-limit"):
        write_snapshot(path, HEADER, contents(), size - 1)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]  # nothing of the attempt is left
    assert write_snapshot(path, HEADER, contents(), size) == size


# What cannot be written leaves the one before it


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], capture_output=True, text=True, check=False
    )
    if mount.returncode:
        pytest.skip(f"no file system can be mounted here: {mount.stderr.strip()}")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_a_full_disk_leaves_the_one_before(small_disk: Path) -> None:
    path = small_disk / "resolver.snapshot"
    write_snapshot(path, HEADER, contents(), LIMIT)
    before = path.read_bytes()
    (small_disk / "filler").write_bytes(bytes(small_disk.stat().st_blksize * 8))
    many = contents(*(worlds.build(f"e{n}", n + 1) for n in range(300)))
    with pytest.raises(OSError, match="No space left on device"):
        write_snapshot(path, HEADER, many, LIMIT)
    assert path.read_bytes() == before
    assert sorted(each.name for each in small_disk.iterdir()) == ["filler", "resolver.snapshot"]


def test_a_limit_on_the_size_of_files_leaves_the_one_before(path: Path) -> None:
    """A disk that becomes full in the middle of the file, for any user."""
    before = path.read_bytes()
    script = (
        "import resource, signal, sys; from pathlib import Path; from tests.watcher import test_snapshot as t\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "t.write_snapshot(Path(sys.argv[1]), t.HEADER, t.contents(), t.LIMIT)"
    )
    done = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, check=False)
    assert "File too large" in done.stderr or "Errno 27" in done.stderr, done.stderr
    assert path.read_bytes() == before


# Keeping


@dataclass
class Zones:
    """What is served, as a watcher would say."""

    mark: Hashable | None = 1
    connected: bool = True
    environments: tuple[Environment, ...] = WORLD
    looks: int = 0

    @property
    def snapshot_mark(self) -> Hashable | None:
        self.looks += 1
        return self.mark

    async def looked_at(self) -> None:
        """Returns when the keeper has looked at it again, and has done what follows from that."""
        before = self.looks
        await until(lambda: self.looks >= before + 3)

    def snapshot_contents(self) -> Contents:
        return contents(*self.environments)


def keeper(path: Path) -> SnapshotKeeper:
    return SnapshotKeeper(path, "the store", "0.1.0", LIMIT)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "EVERY", 0.02)
    monkeypatch.setattr(keeping, "SHARE", 0.0)


@asynccontextmanager
async def kept(path: Path, zones: Zones) -> AsyncIterator[SnapshotKeeper]:
    it = keeper(path)
    task = asyncio.create_task(it.run(zones))
    try:
        yield it
    finally:
        await cancel(task)


@pytest.mark.usefixtures("quick")
async def test_it_is_written_when_something_has_changed_and_only_then(tmp_path: Path) -> None:
    path, zones = tmp_path / "s", Zones(mark=None)
    async with kept(path, zones) as it:
        await zones.looked_at()
        assert not path.exists()  # before all is loaded it would replace a whole one by a part
        zones.mark = 2
        await until(path.exists)
        first = path.stat().st_ino
        confirmed = it.confirmed
        await until(lambda: it.confirmed != confirmed)
        assert path.stat().st_ino == first
        zones.mark = 3
        await until(lambda: path.stat().st_ino != first)


@pytest.mark.usefixtures("quick")
async def test_while_the_source_is_away_its_age_grows(tmp_path: Path) -> None:
    path, zones = tmp_path / "s", Zones()
    async with kept(path, zones) as it:
        await until(path.exists)
        zones.connected = False
        await zones.looked_at()
        os.utime(path, (1.0, 1.0))
        confirmed = it.confirmed
        await zones.looked_at()
        assert path.stat().st_mtime == 1.0
        assert it.confirmed == confirmed
        zones.connected = True
        await until(lambda: path.stat().st_mtime > 1.0)


async def test_the_last_change_is_kept_when_the_process_ends(tmp_path: Path) -> None:
    path = tmp_path / "s"
    async with kept(path, Zones()):
        await asyncio.sleep(0)
    assert list(opened(path).digests) == [PRODUCTION, STAGING]


@pytest.mark.usefixtures("quick")
async def test_one_that_somebody_removed_is_written_again(tmp_path: Path) -> None:
    path = tmp_path / "s"
    async with kept(path, Zones()):
        await until(path.exists)
        path.unlink()
        await until(path.exists)


@pytest.mark.usefixtures("quick")
async def test_what_fails_is_said_once_and_counted_and_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "folder"
    folder.write_text("in the way")
    async with kept(folder / "s", Zones()) as it:
        await until(lambda: it.failures > 2)
        assert it.problem
        assert caplog.messages.count("snapshot_not_written") == 1
        folder.unlink()
        await until((folder / "s").exists)
        await until(lambda: not it.problem)


@pytest.mark.parametrize(
    ("change", "reason"),
    [({"source": "another store"}, "of another source"), ({"is_bound_to_boot": True}, "earlier boot of this host")],
)
async def test_one_of_another_source_or_boot_is_not_used(
    path: Path, change: dict[str, object], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    it = replace(keeper(path), **change)  # type: ignore[arg-type]
    assert await it.open() is None
    assert reason in it.problem
    assert "snapshot_unusable" in caplog.messages


async def test_one_of_this_boot_is_used(path: Path) -> None:
    write_snapshot(path, replace_header(boot=keeping.boot_id()), contents(), LIMIT)
    assert await replace(keeper(path), is_bound_to_boot=True).open()


def replace_header(**fields: str) -> Header:
    return Header(**{**{name: getattr(HEADER, name) for name in Header.__struct_fields__}, **fields})


async def test_writing_and_restoring_leave_the_event_loop_to_others(tmp_path: Path) -> None:
    """A large one is written by a thread that rests most of the time, and is published in slices."""
    edits: list[Edit] = [PutService("api"), *(PutInstance("api", f"i{number}") for number in range(50))]
    many = tuple(worlds.build(f"e{number}", number + 1, *edits) for number in range(200))
    it = replace(keeper(tmp_path / "s"), limit=1 << 30)
    assert await turns_during(it.run(Zones(environments=many)), until_there=tmp_path / "s") > 20
    snapshot, recorder = opened(tmp_path / "s", 1 << 30), Recorder()
    assert await turns_during(restore(snapshot, ServedZones(PLATFORM, recorder), lambda _: True)) > 3
    assert recorder.holds(*many)


async def turns_during(work: Coroutine[None, None, None], until_there: Path | None = None) -> int:
    """How often the event loop did something else until ``work`` was done, or the file was there."""
    task, turns = asyncio.ensure_future(work), 0
    async with asyncio.timeout(scaled(240)):
        while not (task.done() or (until_there and await asyncio.to_thread(until_there.exists))):
            await asyncio.sleep(0.001)
            turns += 1
    if until_there:
        await cancel(task)
    else:
        await task
    return turns


async def test_what_a_killed_process_had_begun_to_write_is_removed(tmp_path: Path) -> None:
    begun, other = tmp_path / ".s.0123456789ab", tmp_path / ".other.0123456789ab"
    begun.write_bytes(bytes(1000))
    other.write_bytes(b"")
    async with kept(tmp_path / "s", Zones(mark=None)):
        await until(lambda: not begun.exists())
    assert other.exists()


async def test_a_snapshot_that_takes_long_does_not_hold_up_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "LONGEST_LAST", 0.0)
    async with kept(tmp_path / "s", Zones()):
        await asyncio.sleep(0)
    assert not (tmp_path / "s").exists()
