from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.unix_server import LONGEST_LINE, SocketInUse, UnixServer


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ValueError):  # a line that is too long
        while line := await reader.readline():
            writer.write(line)
            await writer.drain()


@contextlib.asynccontextmanager
async def listening(server: UnixServer) -> AsyncIterator[None]:
    await server.start()
    try:
        yield
    finally:
        await server.stop()


async def is_answered(path: Path, line: bytes = b"hello\n") -> bool:
    reader, writer = await asyncio.open_unix_connection(path, limit=1 << 22)
    try:
        writer.write(line)
        with contextlib.suppress(ConnectionError):
            return await reader.readline() == line
        return False
    finally:
        writer.close()


async def test_it_answers_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "made" / "it.sock"
    async with listening(UnixServer(path, echo)):
        assert await is_answered(path)
        assert await is_answered(path)
    assert os.listdir(path.parent) == []


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o777], ids=oct)
@pytest.mark.parametrize("mode", [0o600, 0o660], ids=oct)
async def test_whoever_may_connect_is_so_by_its_mode_alone(tmp_path: Path, umask: int, mode: int) -> None:
    path = tmp_path / "it.sock"
    before = os.umask(umask)
    try:
        async with listening(UnixServer(path, echo, mode=mode)):
            assert stat.S_IMODE(path.stat().st_mode) == mode
        assert os.umask(umask) == umask
    finally:
        os.umask(before)


async def test_it_belongs_to_the_group_that_is_named(tmp_path: Path) -> None:
    server = UnixServer(tmp_path / "it.sock", echo)
    await server.start(group=os.getgid())
    assert (tmp_path / "it.sock").stat().st_gid == os.getgid()
    await server.stop()


async def test_where_the_group_cannot_be_set_it_does_not_listen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_path: Path, _user: int, _group: int) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "chown", refuse)
    with pytest.raises(PermissionError):
        await UnixServer(tmp_path / "it.sock", echo).start(group=12345)
    assert os.listdir(tmp_path) == []


async def test_what_a_killed_process_left_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "it.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    async with listening(UnixServer(path, echo)):
        assert await is_answered(path)


async def test_a_socket_that_another_listens_on_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "it.sock"
    async with listening(UnixServer(path, echo)):
        second = UnixServer(path, echo)
        with pytest.raises(SocketInUse, match="in use"):
            await second.start()
        await second.stop()
        assert await is_answered(path)


async def test_a_path_that_is_too_long_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="too long"):
        await UnixServer(tmp_path / ("x" * 120), echo).start()


@pytest.mark.parametrize("longest", [LONGEST_LINE, 1 << 20])
async def test_a_line_may_have_so_many_octets_and_no_more(tmp_path: Path, longest: int) -> None:
    path = tmp_path / "it.sock"
    async with listening(UnixServer(path, echo, longest_line=longest)):
        assert await is_answered(path, b"x" * (longest - 1) + b"\n")
        assert not await is_answered(path, b"x" * longest * 3 + b"\n")


async def test_at_the_end_connections_are_cancelled_and_closed(tmp_path: Path) -> None:
    path = tmp_path / "it.sock"
    ended: list[str] = []
    begun = asyncio.Event()

    async def hang(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        try:
            begun.set()
            await asyncio.Future()
        finally:
            ended.append("undone")

    async with listening(UnixServer(path, hang)):
        reader, writer = await asyncio.open_unix_connection(path, limit=1 << 22)
        await begun.wait()
    assert ended == ["undone"]
    assert await reader.read() == b""
    writer.close()


async def test_a_connection_is_closed_when_it_has_been_served(tmp_path: Path) -> None:
    path = tmp_path / "it.sock"

    async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello and goodbye\n")

    async with listening(UnixServer(path, greet)):
        reader, writer = await asyncio.open_unix_connection(path, limit=1 << 22)
        assert await reader.read() == b"hello and goodbye\n"
        writer.close()
