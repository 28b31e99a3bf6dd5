from __future__ import annotations

import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.files import remove_partial, remove_partials, whole_file, write_whole


@pytest.fixture(params=[0o000, 0o022, 0o077, 0o777], ids=oct)
def _umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


@pytest.mark.usefixtures("_umask")
@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_the_file_has_the_content_and_the_mode_and_nothing_is_beside_it(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "file"
    for content in (b"one", b"another"):
        write_whole(path, content, mode)
        assert path.read_bytes() == content
        assert stat.S_IMODE(path.stat().st_mode) == mode
    assert os.listdir(tmp_path) == ["file"]


def test_until_all_is_written_the_old_content_stands(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_whole(path, b"old", 0o600)
    with whole_file(path, 0o600) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"


def test_an_error_leaves_what_was_there_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_whole(path, b"old", 0o600)

    def fail() -> None:
        with whole_file(path, 0o600) as file:
            file.write(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert (path.read_bytes(), os.listdir(tmp_path)) == (b"old", ["file"])


def test_a_full_disk_leaves_what_was_there_and_nothing_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "file"
    write_whole(path, b"old", 0o600)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_whole(path, b"new", 0o600)
    assert (path.read_bytes(), os.listdir(tmp_path)) == (b"old", ["file"])


@pytest.mark.parametrize(
    ("flush", "flush_folder", "expected"),
    [(True, True, ["file", "rename", "folder"]), (True, False, ["file", "rename"]), (False, False, ["rename"])],
)
def test_the_content_is_on_the_disk_before_its_name_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, flush: bool, flush_folder: bool, expected: list[str]
) -> None:
    done: list[str] = []
    fsync, rename = os.fsync, os.rename

    def noted_fsync(descriptor: int) -> None:
        fsync(descriptor)
        done.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")

    def noted_rename(partial: str, path: str, **folders: int) -> None:
        done.append("rename")
        rename(partial, path, **folders)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "rename", noted_rename)
    write_whole(tmp_path / "file", b"new", 0o600, flush=flush, flush_folder=flush_folder)
    assert done == expected


def test_a_folder_that_cannot_be_flushed_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsync = os.fsync

    def files_only(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(22, "Invalid argument")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", files_only)
    write_whole(tmp_path / "file", b"new", 0o600)
    assert (tmp_path / "file").read_bytes() == b"new"


def test_the_first_of_many_stays_where_nothing_is_to_be_replaced(tmp_path: Path) -> None:
    path = tmp_path / "file"
    written: list[int] = []
    barrier = threading.Barrier(8)

    def write(number: int) -> None:
        barrier.wait()
        try:
            write_whole(path, b"%d" % number * 1000, 0o600, replace=False)
        except FileExistsError:
            return
        written.append(number)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (first,) = written
    assert path.read_bytes() == b"%d" % first * 1000
    assert os.listdir(tmp_path) == ["file"]


def test_a_folder_that_is_not_there_is_an_error_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), whole_file(tmp_path / "missing" / "file", 0o600):
        pytest.fail("there is nothing to write to")


def test_what_a_killed_writer_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    path, others = tmp_path / "wireguard.key", {".wireguard.key", ".hidden.0123", "wireguard.key", "a.0123456789ab"}
    for name in others:
        (tmp_path / name).touch()
    partials = []
    for name in ("wireguard.key", "wireguard.next.key", "e.s.i.json"):
        with whole_file(tmp_path / name, 0o600):
            partials.append(next(one for one in os.listdir(tmp_path) if one.startswith(f".{name}.")))
    for name in partials:
        (tmp_path / name).touch()
    remove_partial(path)
    assert set(os.listdir(tmp_path)) >= others | set(partials[1:])
    assert partials[0] not in os.listdir(tmp_path)
    remove_partials(tmp_path)
    assert set(os.listdir(tmp_path)) == others | {"wireguard.next.key", "e.s.i.json"}
