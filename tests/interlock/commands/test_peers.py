"""``interlock peer``: keys that belong together, complete files, and no loss where a step in the middle fails."""

from __future__ import annotations

import asyncio
import json
import os
import re
import resource
import shutil
import stat
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from agent.keys import PrivateKey
from store.credentials import Enrolment
from store.errors import Unavailable
from store.hosts import HostStore
from store.store import Store
from tests.admin.api import ROOT, Api, E, make_host, make_key
from tests.interlock.commands.test_qr import read
from tests.interlock.processes import run_here
from tests.worlds import lease_of
from zones.hosts import Hosts

LEASE = 60_000  # milliseconds; longer than any test
QR_LINE = re.compile(r"# ([ ▄▀█]+)")


@dataclass(frozen=True, slots=True)
class Commands:
    """The commands, as a user of ``api`` runs them."""

    api: Api

    async def __call__(self, command: str, *arguments: str) -> tuple[int, str, str]:
        """Exit status, output and errors of ``interlock peer``; of a flag that is given twice the last one counts."""
        where = ("--api", f"http://127.0.0.1:{self.api.port}", "--token", ROOT, "--environment", "production")
        return await asyncio.to_thread(run_here, "peer", command, *where, *arguments)

    async def done(self, *arguments: str) -> str:
        """What a command prints that must succeed, and have nothing to complain of."""
        status, out, err = await self(*arguments)
        assert (status, err) == (0, "")
        return out

    async def refused(self, *arguments: str) -> str:
        """What a command says about why it failed, in one line."""
        status, out, err = await self(*arguments)
        assert (status, out, err.count("\n")) == (1, "", 1)
        return err

    async def key(self) -> str | None:
        """The public key that the laptop has in the API; None where it is no peer."""
        answer = await self.api.get(f"{E}/peers/laptop")
        return answer.body["public_key"] if answer.status == 200 else None


@pytest_asyncio.fixture
async def peer(store: Store) -> AsyncIterator[Commands]:
    """The commands against an API with the environment `production` and the hosts h1, which lives, and h2."""
    async with Api(store) as api:
        await api.put(E, {})
        for number in (1, 2):
            await store.hosts.register(make_host(number))
            await store.credentials.invite(f"h{number}", Enrolment(f"d{number}", 1 << 50))
            await store.credentials.enrol(f"h{number}", f"d{number}", f"{number}" * 64, 0)
        await store.leases.renew(lease_of("h1"), LEASE)
        yield Commands(api)


def private_key(config: str) -> PrivateKey:
    (text,) = re.findall("^PrivateKey = (.*)$", config, re.MULTILINE)
    return PrivateKey.parse(text)


def stripped(path: Path) -> list[str]:
    """The lines that wg-quick(8) leaves for wg(8), without the comments."""
    if not shutil.which("wg-quick"):
        pytest.skip("no wg-quick on this machine to read it with: install the package wireguard-tools")
    left = subprocess.run(["wg-quick", "strip", path], check=True, capture_output=True, text=True).stdout
    return [line for line in left.splitlines() if line and not line.startswith("#")]


def qr_code(config: str) -> str:
    return "\n".join(match[1] for line in config.splitlines() if (match := QR_LINE.fullmatch(line)))


# Added


async def test_the_file_is_printed_with_the_key_that_fits_and_a_code(peer: Commands) -> None:
    printed = await peer.done("add", "laptop")
    assert private_key(printed).public == await peer.key()
    assert f"PublicKey = {make_key(1)}\n" in printed
    assert "PostUp = resolvectl" in printed
    assert "\x1b" not in printed  # colours are for terminals
    app = read(qr_code(printed))
    assert private_key(app) == private_key(printed)
    assert "DNS = fd12:" in app
    assert max(map(len, printed[printed.index("\n# for") :].splitlines())) <= 80


@contextmanager
def umask(bits: int) -> Iterator[None]:
    """The permissions that new files lack meanwhile."""
    before = os.umask(bits)
    try:
        yield
    finally:
        os.umask(before)


async def test_it_is_a_file_for_this_user_alone_that_wg_quick_takes(peer: Commands, tmp_path: Path) -> None:
    path = tmp_path / "laptop.conf"
    with umask(0):
        printed = await peer.done("add", "laptop", "--output", str(path))
    assert printed == f"wrote {path}\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["laptop.conf"]
    text = path.read_text()
    assert private_key(text).public == await peer.key()
    assert "\x1b" not in text
    left = ["[Interface]", "PrivateKey", "[Peer]", "PublicKey", "Endpoint", "AllowedIPs", "PersistentKeepalive"]
    assert [line.partition(" = ")[0] for line in stripped(path)] == left


async def test_without_a_code(peer: Commands) -> None:
    printed = await peer.done("add", "laptop", "--no-qr")
    assert not qr_code(printed)
    assert private_key(printed).public == await peer.key()


async def test_for_programs(peer: Commands, tmp_path: Path) -> None:
    answer = json.loads(await peer.done("add", "laptop", "--json", "--no-qr"))
    assert (answer["id"], answer["gateway"], answer["public_key"]) == ("laptop", "h1", await peer.key())
    assert private_key(answer["config"]).public == answer["public_key"]
    path = str(tmp_path / "phone.conf")
    answer = json.loads(await peer.done("add", "phone", "--json", "--output", path))
    assert (answer["file"], "config" in answer) == (path, False)


async def test_with_a_key_that_is_elsewhere(peer: Commands) -> None:
    printed = await peer.done("add", "laptop", "--public-key", make_key(0xA1), "--gateway", "h2")
    assert "PrivateKey = <the private key" in printed
    assert not qr_code(printed)
    assert await peer.key() == make_key(0xA1)
    moved = await peer.done("add", "laptop", "--public-key", make_key(0xA1), "--gateway", "h1")
    assert f"PublicKey = {make_key(1)}\n" in moved


async def test_a_peer_that_is_there_keeps_its_key_unless_forced(peer: Commands, tmp_path: Path) -> None:
    path = tmp_path / "laptop.conf"
    await peer.done("add", "laptop", "--output", str(path))
    key, text = await peer.key(), path.read_text()
    assert "'laptop' is a peer already" in await peer.refused("add", "laptop")
    assert "exists already: name another file, or overwrite it" in await peer.refused(
        "add", "phone", "--output", str(path)
    )
    assert (await peer.key(), path.read_text(), os.listdir(tmp_path)) == (key, text, ["laptop.conf"])
    await peer.done("add", "laptop", "--force", "--output", str(path))
    assert key != await peer.key() == private_key(path.read_text()).public


# Shown, listed, removed


async def test_listed_shown_again_and_removed(peer: Commands) -> None:
    await peer.done("add", "laptop")
    key = str(await peer.key())
    heading, row = (await peer.done("list")).splitlines()
    assert heading.split() == ["ID", "ADDRESS", "GATEWAY", "PUBLIC", "KEY"]
    assert row.split()[::2] == ["laptop", "h1"]
    assert row.endswith(key)
    assert "PrivateKey = <the private key" in await peer.done("config", "laptop")
    assert "DNS = fd12:" in await peer.done("config", "laptop", "--form", "app")
    assert await peer.done("remove", "laptop") == "deleted the peer laptop of production\n"
    assert await peer.key() is None
    for command in ("config", "remove"):
        assert "has no peer 'laptop'" in await peer.refused(command, "laptop")


# What goes wrong


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--public-key", "nonsense"], "'nonsense' is not a public key: it is 32 octets in base64"),
        (["--public-key", make_key(2)], "that of the host 'h2'"),
        (["--gateway", "h9"], "no host 'h9' is registered: name one that is"),
        (["--environment", "nosuch"], "there is no environment 'nosuch'"),
        (["--output", "/proc/laptop.conf"], "/proc/laptop.conf cannot be written: No such file or directory"),
        (["--output", "/nosuch/laptop.conf"], "/nosuch/laptop.conf cannot be written: No such file or directory"),
        (["--output", "/" + "x" * 300], "cannot be written: File name too long"),
        (["--output", "/", "--force"], "/ is no regular file: name another"),
        (["--output", "/dev/null", "--force"], "/dev/null is no regular file: name another"),
    ],
)
async def test_what_is_wrong_is_one_line_and_adds_nothing(
    peer: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    output = [] if "--output" in arguments else ["--output", "laptop.conf"]
    assert said in await peer.refused("add", "laptop", *output, *arguments)
    assert await peer.key() is None
    assert os.listdir(tmp_path) == []


async def test_nobody_answers(peer: Commands, tmp_path: Path) -> None:
    path = tmp_path / "laptop.conf"
    for overwrite in ([], ["--force"]):
        said = await peer.refused("add", "laptop", "--output", str(path), *overwrite, "--api", "http://127.0.0.1:9")
        assert "does not answer: Connection refused" in said
    assert os.listdir(tmp_path) == []


async def test_the_store_goes_once_the_peer_is_added(
    peer: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "laptop.conf"
    path.write_text("what was there")
    with store_that_goes_after(1, monkeypatch):
        said = await peer.refused("add", "laptop", "--force", "--output", str(path))
    assert "'laptop' is a peer now, but its file cannot be made" in said
    assert "create it again with --force" in said
    assert (path.read_text(), os.listdir(tmp_path)) == ("what was there", ["laptop.conf"])
    await peer.done("add", "laptop", "--force", "--output", str(path))
    assert private_key(path.read_text()).public == await peer.key()
    with store_that_goes_after(1, monkeypatch):
        said = await peer.refused("add", "laptop", "--public-key", make_key(0xA1))
    assert "'interlock peer config laptop'" in said


@contextmanager
def store_that_goes_after(reads: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A store that, after so many reads of the hosts, answers no more of them."""
    read = HostStore.read
    left = iter(range(reads))

    async def read_or_fail(self: HostStore) -> Hosts:
        if next(left, None) is None:
            raise Unavailable("the store is away")
        return await read(self)

    with monkeypatch.context() as patch:
        patch.setattr(HostStore, "read", read_or_fail)
        yield


async def test_the_disk_is_full(peer: Commands, tmp_path: Path) -> None:
    path = tmp_path / "laptop.conf"
    with largest_file(100):
        said = await peer.refused("add", "laptop", "--output", str(path))
    assert "its file cannot be made: File too large: create it again with --force" in said
    assert os.listdir(tmp_path) == []


@contextmanager
def largest_file(octets: int) -> Iterator[None]:
    """No file can become larger than ``octets`` meanwhile."""
    before: Any = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (octets, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
