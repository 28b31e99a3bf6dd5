"""The embedded store: a real server that ends with its parent, crashes, is restarted, or cannot start."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import stat
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from interlock.errors import EmbeddedStoreFailed, StateDirectoryUnusable
from interlock.process import embedded
from interlock.process.embedded import EmbeddedStore
from interlock.process.state_dir import locked, make_state_directory
from store.store import Store
from tests import worlds
from tests.interlock.keeper import keeper
from tests.interlock.processes import run, started, stores_in, wait_until
from zones.edits import PutService

SERVERS = [None, "redis-server"]


@pytest.fixture(params=SERVERS, ids=["valkey", "redis"])
def server(request: pytest.FixtureRequest) -> str | None:
    if request.param and not shutil.which(request.param):
        pytest.skip(f"no {request.param} on this machine: install the package of that name")
    chosen: str | None = request.param
    return chosen


@asynccontextmanager
async def running(directory: Path, server: str | None = None) -> AsyncIterator[tuple[Store, asyncio.Task[None]]]:
    """A client of a store that runs in ``directory``, and the task that runs it."""
    ready = asyncio.Event()
    with locked(directory) as lock:
        embedded_store = EmbeddedStore(directory, lock, server)
        task = asyncio.create_task(embedded_store.run(ready.set))
        store = Store(embedded_store.url)
        try:
            waiting = asyncio.create_task(ready.wait())
            await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
            if not ready.is_set():
                await task  # raises its error
            yield store, task
        finally:
            await store.close()
            task.cancel()
            await asyncio.wait({task})


async def test_written_data_is_there_after_a_restart(tmp_path: Path, server: str | None) -> None:
    async with running(tmp_path, server) as (store, _task):
        await store.environments.commit(worlds.production(), 0)
    assert not stores_in(tmp_path)
    async with running(tmp_path, server) as (store, _task):
        revision, environment = await store.environments.read(worlds.PRODUCTION)
    assert environment == worlds.production()
    assert revision == worlds.production().revision


async def test_only_this_user_can_reach_it(tmp_path: Path) -> None:
    directory = tmp_path / "new" / "state"
    make_state_directory(directory)
    async with running(directory):
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()}
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", 6379), 1)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert modes == {"lock": 0o600, "store": 0o700, "store.log": 0o600, "store.sock": 0o600}


async def test_a_crash_is_reported_with_its_reason(tmp_path: Path) -> None:
    async with running(tmp_path) as (_store, task):
        (pid,) = stores_in(tmp_path)
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(
            EmbeddedStoreFailed,
            match=r"ended by SIGKILL; its last log line is: Ready to accept connections.*store\.log",
        ):
            await task


def test_it_does_not_outlive_a_parent_that_is_killed(tmp_path: Path, server: str | None) -> None:
    with started(*keeper(tmp_path, server)) as process:
        process.read_until("ready")
        (pid,) = stores_in(tmp_path)
        process.end(signal.SIGKILL)
        wait_until(lambda: not stores_in(tmp_path))
        assert not Path(f"/proc/{pid}/exe").exists()


def test_a_second_store_is_refused_until_the_first_has_ended(tmp_path: Path) -> None:
    with started(*keeper(tmp_path)) as first:
        first.read_until("ready")
        second = run(*keeper(tmp_path))
        assert second.returncode != 0
        assert second.stderr == (
            f"StateDirectoryUnusable: state directory {tmp_path} is in use by process {first.pid}:"
            " stop that one, or choose another directory with --state-dir\n"
        )
        first.end(signal.SIGKILL)
        with started(*keeper(tmp_path)) as third:
            third.read_until("ready")


def test_a_store_that_is_still_ending_holds_the_lock(tmp_path: Path) -> None:
    # The server holds the inherited lock, so no other process uses the files of a killed parent while the server does.
    with started(*keeper(tmp_path)) as process:
        process.read_until("ready")
        inode = (tmp_path / "lock").stat().st_ino
        (pid,) = stores_in(tmp_path)
        held = {Path(entry).stat().st_ino for entry in Path(f"/proc/{pid}/fd").iterdir() if Path(entry).exists()}
        assert inode in held


async def test_a_server_that_does_not_end_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "END_DEADLINE", 0.2)
    async with running(tmp_path):
        (pid,) = stores_in(tmp_path)
        os.kill(pid, signal.SIGSTOP)
    assert not stores_in(tmp_path)


def _break_append_only_file(directory: Path) -> None:
    (file,) = (directory / "store" / "appendonlydir").glob("*.incr.aof")
    content = bytearray(file.read_bytes())
    content[60:90] = b"x" * 30
    file.write_bytes(content)


async def test_a_damaged_file_is_reported_with_a_remedy_that_works(tmp_path: Path, server: str | None) -> None:
    async with running(tmp_path, server) as (store, _task):
        await store.environments.commit(worlds.production(), 0)
    _break_append_only_file(tmp_path)
    with pytest.raises(EmbeddedStoreFailed, match=r"\.incr\.aof is damaged .* put back a backup") as failure:
        async with running(tmp_path, server):
            pass
    remedy = str(failure.value).partition(" with: ")[2]
    done = await asyncio.to_thread(
        subprocess.run, remedy, shell=True, input="y\n", capture_output=True, text=True, check=False
    )
    assert "Successfully truncated" in done.stdout, done
    async with running(tmp_path, server) as (store, _task):
        await store.ping()


async def test_a_file_that_was_cut_is_reported(
    tmp_path: Path, server: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(tmp_path, server) as (store, _task):
        for environment in (worlds.staging(), worlds.production()):
            await store.environments.commit(environment, 0)
    assert "store_truncated" not in caplog.messages
    (file,) = (tmp_path / "store" / "appendonlydir").glob("*.incr.aof")
    size = file.stat().st_size
    os.truncate(file, size - 100)
    async with running(tmp_path, server) as (store, _task):
        index = await store.environments.index()
    assert list(index) == [worlds.STAGING]
    (record,) = (record for record in caplog.records if record.getMessage() == "store_truncated")
    said = vars(record)
    assert said["file"] == str(file)
    assert 0 < said["octets_left"] < size - 100
    assert said["octets_removed"] == size - 100 - said["octets_left"]


@pytest.mark.parametrize("cut", range(10, 600, 80))
async def test_commits_after_a_cut_are_not_lost_at_the_next_start(
    tmp_path: Path, server: str | None, cut: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Redis 7.0 keeps the beginning of a transaction that was cut, and takes later commits for its end."""
    async with running(tmp_path, server) as (store, _task):
        for environment in (worlds.staging(), worlds.build("cut", 7, PutService("api"))):
            await store.environments.commit(environment, 0)
    (file,) = (tmp_path / "store" / "appendonlydir").glob("*.incr.aof")
    os.truncate(file, file.stat().st_size - cut)
    async with running(tmp_path, server) as (store, _task):
        await store.environments.commit(worlds.production(), 0)
        before = await store.environments.index()
    assert list(before) == [worlds.STAGING, worlds.PRODUCTION]
    caplog.clear()
    async with running(tmp_path, server) as (store, _task):
        assert await store.environments.index() == before
    assert "store_truncated" not in caplog.messages  # once, not at each start


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", disk], capture_output=True, text=True, check=False
    )
    if mount.returncode:
        pytest.skip(f"no file system can be mounted here: {mount.stderr.strip()}")
    subprocess.run(["dd", "if=/dev/zero", f"of={disk}/filler", "bs=1k"], capture_output=True, check=False)
    yield disk
    subprocess.run(["umount", disk], check=True)


async def test_a_full_disk_at_the_start(full_disk: Path) -> None:
    with pytest.raises((EmbeddedStoreFailed, StateDirectoryUnusable), match="No space left on device"):
        async with running(full_disk):
            pass


async def test_a_path_too_long_for_a_socket(tmp_path: Path) -> None:
    with pytest.raises(EmbeddedStoreFailed, match="octets, more than 107: choose a shorter --state-dir"):
        EmbeddedStore(tmp_path / ("a" * 110), -1)


@pytest.mark.parametrize("server", ["/nonexistent/valkey-server", "no-such-program", "/etc/passwd"])
def test_a_missing_server_program(tmp_path: Path, server: str) -> None:
    with pytest.raises(EmbeddedStoreFailed, match=f"there is no program '{server}'"):
        EmbeddedStore(tmp_path, -1, server)


async def test_a_program_that_is_not_a_store(tmp_path: Path) -> None:
    with pytest.raises(EmbeddedStoreFailed, match="ended with status 0; its last log line is: nothing"):
        async with running(tmp_path, "/bin/true"):
            pass
