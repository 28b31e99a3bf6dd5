"""A full disk, at all that ``interlock up``, its store and ``interlock admin`` write: refused, named, nothing lost."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from interlock.client import Client
from interlock.errors import ApiRefused, ApiUnreachable
from resolver.client import ask
from tests.interlock.processes import get, interlock, run, started, wait_until
from tests.store.servers import StartServer, free_port
from zones.names import Name
from zones.records import RRType

PAGE = 4096  # octets; a file of less takes no more room when it grows up to that
ENVIRONMENT = "shop"


@dataclass(frozen=True, slots=True)
class Disk:
    """A small file system."""

    path: Path

    @property
    def state(self) -> Path:
        return self.path / "state"

    def fill(self) -> None:
        """Leaves no room for data."""
        with suppress(OSError), (self.path / "filler").open("ab", buffering=0) as file:
            while True:
                file.write(bytes(PAGE))

    def fill_with_files(self) -> None:
        """Leaves no room for a file more."""
        with suppress(OSError):
            for number in range(1 << 16):
                (self.path / f"filler-{number}").touch()

    def make_room(self) -> None:
        for path in self.path.glob("filler*"):
            path.unlink()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    path = tmp_path / "disk"
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m,nr_inodes=64", "tmpfs", str(path)]
    mount = subprocess.run(command, capture_output=True, text=True, check=False)
    if mount.returncode:
        pytest.skip(f"no file system can be mounted here: {mount.stderr.strip()}")
    yield Disk(path)
    subprocess.run(["umount", "--lazy", path], check=True)


class Up:
    """The command that runs ``interlock up`` in a state directory, and what its users do with it."""

    def __init__(self, state: Path) -> None:
        dns, api = free_port(), free_port()
        self.dns = ("127.0.0.1", dns)
        self.url = f"http://127.0.0.1:{api}"
        self._state = state
        self.command = interlock(
            "up", "--state-dir", str(state), "--dns-listen", f"127.0.0.1:{dns}", "--api-listen", f"127.0.0.1:{api}",
            "--upstream", "none", "--bind", f"127.0.0.1={ENVIRONMENT}", "--log-format", "json",
        )  # fmt: skip

    def write(self, text: str) -> None:
        """Sets a record to 20 values of together 4 KiB that begin with ``text``."""
        values = [f"{text}-{number:02}-{'x' * 200}" for number in range(20)]
        self.client.put("environments", ENVIRONMENT, "records", "text", "TXT", body={"ttl": 5, "values": values})

    @property
    def client(self) -> Client:
        return Client(self.url, (self._state / "admin.token").read_text().strip())

    def answers(self, text: str) -> bool:
        """Whether clients are answered what `write` has set."""
        answer = ask(self.dns, Name.parse("text.railway.internal"), RRType.TXT)
        return len(answer.records) == 20 and all(f'"{text}-' in record for record in answer.records)

    def writes(self, text: str) -> bool:
        """Whether `write` is acknowledged."""
        try:
            self.write(text)
        except (ApiRefused, ApiUnreachable):
            return False
        return True


def test_a_commit_of_up(disk: Disk) -> None:
    up = Up(disk.state)
    with started(*up.command) as process:
        process.read_until("Ctrl-C")
        up.client.put("environments", ENVIRONMENT, body={})
        up.write("before")
        wait_until(partial(up.answers, "before"))
        disk.fill()
        with pytest.raises(ApiRefused) as refused:
            up.write("full")  # more than what the last page of the file has room for
        assert refused.value.status == 503
        wait_until(lambda: "is full" in process.errors)
        assert f"the disk of {disk.state / 'store'} is full" in process.errors
        assert up.answers("before")
        disk.make_room()
        freed = time.monotonic()
        wait_until(partial(up.writes, "after"))
        print(f"a write is acknowledged {time.monotonic() - freed:.1f} s after there is room")
        wait_until(partial(up.answers, "after"))
        process.end(signal.SIGKILL)
    with started(*up.command) as process:
        process.read_until("Ctrl-C")
        wait_until(partial(up.answers, "after"))
        assert "store_truncated" not in process.errors


def test_a_snapshot_of_up(disk: Disk) -> None:
    up, snapshot = Up(disk.state), disk.state / "up.snapshot"
    with started(*up.command) as process:
        process.read_until("Ctrl-C")
        up.client.put("environments", ENVIRONMENT, body={})
        wait_until(snapshot.exists)
        before = snapshot.read_bytes()
        up.write("first")  # it waits to be kept, for some seconds
        disk.fill()
        wait_until(lambda: "snapshot_not_written" in process.errors)
        assert "No space left on device" in process.errors
        _, verbose = get(f"{up.url}/readyz?verbose")
        assert "[+]snapshot ok: the last attempt to write or read it has failed: No space left on device" in verbose
        assert snapshot.read_bytes() == before
        assert not list(disk.state.glob(".*"))
        disk.make_room()
        assert process.end(signal.SIGTERM) == 0  # which writes the last one
        assert b"first-00" in snapshot.read_bytes()


def test_the_start_of_up_in_an_empty_directory(disk: Disk) -> None:
    up = Up(disk.state)
    disk.fill()
    refused = run(*up.command)
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1), refused.stderr
    assert "No space left on device" in refused.stderr
    disk.make_room()
    with started(*up.command) as process:
        process.read_until("Ctrl-C")


def test_the_start_of_up_with_its_data(disk: Disk) -> None:
    """It answers, for it has all that it needs to read; and commits again when there is room."""
    up = Up(disk.state)
    with started(*up.command) as process:
        process.read_until("Ctrl-C")
        up.client.put("environments", ENVIRONMENT, body={})
        up.write("before")
        process.end(signal.SIGKILL)
    disk.fill()
    with started(*up.command) as process:
        process.read_until("Ctrl-C")
        wait_until(partial(up.answers, "before"))
        disk.make_room()
        wait_until(partial(up.writes, "after"))
        wait_until(partial(up.answers, "after"))


def test_the_sockets_of_up(disk: Disk) -> None:
    up = Up(disk.state)
    with started(*up.command) as process:  # so that all files are there, and the sockets alone are made
        process.read_until("Ctrl-C")
        up.client.put("environments", ENVIRONMENT, body={})
        up.write("before")
        wait_until((disk.state / "up.snapshot").exists)
        process.end(signal.SIGTERM)
    for path in disk.state.glob("*.sock"):
        path.unlink()
    disk.fill_with_files()
    with started(*up.command) as process:  # it serves what it has kept, and waits for its store
        wait_until(lambda: "No space left on device" in process.errors)
        wait_until(partial(up.answers, "before"))
        disk.make_room()
        wait_until(partial(up.writes, "after"))
        wait_until(partial(up.answers, "after"))


async def test_the_token_of_admin(disk: Disk, start_server: StartServer) -> None:
    server = await start_server()
    command = interlock("admin", "--redis", server.url, "--state-dir", str(disk.state), "--api-listen", "127.0.0.1:0")
    disk.fill()
    refused = run(*command)
    assert refused.returncode == 1
    assert f"the admin token {disk.state / 'admin.token'} cannot be kept: No space left on device" in refused.stderr
    assert not list(disk.state.iterdir())  # no file that is empty or cut short
    disk.make_room()
    with started(*command, "--log-format", "json") as process:
        wait_until(lambda: '"ready"' in process.errors)
        assert len((disk.state / "admin.token").read_text().strip()) > 20


async def test_the_store_of_admin(disk: Disk, tmp_path: Path, start_server: StartServer) -> None:
    """A store that writes once a second refuses writes while it has no room. What it says reaches the client."""
    server = await start_server("--appendonly", "yes", "--dir", str(disk.path))
    api = free_port()
    url = f"http://127.0.0.1:{api}"
    state = tmp_path / "admin"
    listen = ("--state-dir", str(state), "--api-listen", f"127.0.0.1:{api}", "--log-format", "json")
    with started(*interlock("admin", "--redis", server.url, *listen)) as process:
        wait_until(lambda: '"ready"' in process.errors)
        client = Client(url, (state / "admin.token").read_text().strip())
        client.put("environments", ENVIRONMENT, body={})
        disk.fill()
        acknowledged, reason = fill_store(client)
        assert "No space left on device" in reason, reason
        assert stored(client) in {acknowledged, acknowledged + 1}
        wait_until(lambda: get(f"{url}/readyz")[0] == 503)
        disk.make_room()
        wait_until(partial(is_acknowledged, client, acknowledged + 2))
        assert stored(client) == acknowledged + 2


def fill_store(client: Client) -> tuple[int, str]:
    """Writes until a write is refused: the last number that was acknowledged, and the reason."""
    number = 0
    while True:
        try:
            put(client, number + 1)
        except ApiRefused as error:
            return number, str(error)
        number += 1


def put(client: Client, number: int) -> None:
    values = [f"{number:06}{'x' * 200}{item:02}" for item in range(20)]
    client.put("environments", ENVIRONMENT, "records", "text", "TXT", body={"ttl": 5, "values": values})


def is_acknowledged(client: Client, number: int) -> bool:
    try:
        put(client, number)
    except ApiRefused:
        return False
    return True


def stored(client: Client) -> int:
    """The number that the store holds; 0 for none."""
    records = client.get("environments", ENVIRONMENT)["records"]
    return int(records[0]["values"][0][:6]) if records else 0
