"""Clients of Redis or Valkey: the adapter around redis-py, whose exceptions end here.

This module overrides six defaults of redis-py: RESP3 (not every deployed server or proxy speaks it), a socket timeout
of 5 s (it would end a blocking read), ten retries of any command (a commit that is retried after its reply was lost
would conflict with itself), that any server will do (each connection first asks the server for its role), that each
write is a task of its own (to limit its time, which takes a fifth of what a command costs this process), and that
commands are packed in Python (a command with a hundred words takes 0.2 ms so, and queries wait).
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from weakref import WeakSet

import hiredis
from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.connection import Connection, SSLConnection, UnixDomainSocketConnection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as ConnectionFailed
from redis.exceptions import NoPermissionError, NoScriptError, ReadOnlyError, RedisError, ResponseError

from store.errors import Refused, Unavailable, WrongKey
from store.url import Address, SentinelUrl, check_url, is_sentinel, read_sentinel_url, redact, uses_tls

CONNECT_TIMEOUT = 2.0  # seconds; the caller learns that a server is gone before the caller itself gives up
CHECK_IT = "'interlock store check' says what it takes to mend it"
REPLICA_ROLES = (b"replica", b"slave")

# What a script of ours says of a key; older servers put words of their own around it.
_IN_SCRIPT = re.compile(
    r"\.? script: (?:[0-9a-f]{40}, )?on @user_script:[0-9]+\.?$"
)  # the place in a script of ours, which helps nobody
_WRONG_KEY = re.compile(r"WRONGKEY (.*?)(?: script: .*)?$")

Arguments = Mapping[str, Any]
"""What a connection of redis-py is made with."""


def arguments_of(url: str, ca: Path | None = None) -> Arguments:
    """How to reach the server at ``url``, which names no Sentinels. Raises ``ValueError``."""
    check_url(url)
    arguments: dict[str, Any] = dict(parse_url(url))
    if ca and uses_tls(url):
        arguments.setdefault("ssl_ca_certs", str(ca))
    try:
        pool: Any = ConnectionPool(**arguments)
        pool.make_connection()  # opens nothing; it is the first call that reads the options
    except TypeError:
        raise ValueError(f"{redact(url)!r} has an option that redis-py does not know: see its Redis.from_url") from None
    return arguments


def arguments_by_sentinel(url: SentinelUrl, address: Address, ca: Path | None = None) -> Arguments:
    """How to reach the server at ``address``, which a Sentinel named."""
    return {**_address(url, address, ca), "username": url.username, "password": url.password, "db": url.db}


def arguments_of_sentinel(url: SentinelUrl, address: Address, ca: Path | None = None) -> Arguments:
    """How to reach the Sentinel at ``address``."""
    return {**_address(url, address, ca), "username": url.sentinel_username, "password": url.sentinel_password}


def check_readable(url: str) -> None:
    """Raises ``ValueError`` if ``url`` does not say how to reach a server, or has options that are unknown."""
    if is_sentinel(url):
        read_sentinel_url(url)
    else:
        arguments_of(url)


def open_client(
    arguments: Arguments, *, timeout: float, most: int = 100, any_role: bool = False, once: bool = False
) -> Any:
    """A ``redis.asyncio.Redis`` with up to ``most`` connections, which it opens with its first commands.

    It is typed as Any because redis-py types each reply as the union of the replies of all its modes. ``timeout`` in
    seconds bounds every wait for a reply. Each connection fails that reaches a replica, unless ``any_role``. With
    ``once``, a connection that has ended is not opened again.
    """
    opened: WeakSet[Any] = WeakSet()
    kind = _PROMPT[arguments.get("connection_class", Connection)]

    async def greet(connection: Any) -> None:
        if once and connection in opened:
            raise ConnectionFailed("the server has ended the connection")
        await connection.on_connect()
        if not any_role:
            await connection.send_command("HELLO")
            # A server or a proxy that does not know the command, or does not allow it, may have any role.
            with suppress(ResponseError):
                _check_role(await connection.read_response())
        opened.add(connection)

    pool: Any = ConnectionPool(
        max_connections=most,
        socket_timeout=timeout,
        socket_connect_timeout=CONNECT_TIMEOUT,
        retry=Retry(NoBackoff(), 0),
        protocol=2,
        driver_info=None,  # no CLIENT SETINFO, which servers before Redis 7.2 do not know, and users of few rights lack
        redis_connect_func=greet,
        **{**arguments, "connection_class": kind},
    )
    return Redis.from_pool(pool)


class _Prompt:
    """Commands are packed in C, and go to the system at once; only what that does not take at once is waited for."""

    def pack_command(self, *words: Any) -> list[bytes]:
        # The first word is a name such as "CLIENT LIST", which are two for the server.
        return [hiredis.pack_command((*words[0].split(), *words[1:]))]

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        connection: Any = self
        if connection.is_connected and not connection.health_check_interval and isinstance(command, list):
            transport = connection._writer.transport
            if not transport.is_closing() and not transport.get_write_buffer_size():
                connection._writer.writelines(command)
                if not transport.get_write_buffer_size():
                    return
                command = []  # the rest is with the transport, and is waited for below
        await super().send_packed_command(command, check_health)  # type: ignore[misc]


class _Connection(_Prompt, Connection):
    pass


class _UnixConnection(_Prompt, UnixDomainSocketConnection):
    pass


class _TlsConnection(_Prompt, SSLConnection):
    pass


_PROMPT: Mapping[type[Any], type[Any]] = {
    Connection: _Connection,
    UnixDomainSocketConnection: _UnixConnection,
    SSLConnection: _TlsConnection,
}


def abort(client: Any) -> None:
    """Makes each command of ``client`` that waits for a reply fail at once.

    The library's own way to close connections that are in use leaves their users with errors that are none of its own.
    """
    for connection in client.connection_pool._in_use_connections:
        if writer := connection._writer:
            writer.transport.abort()


def forget_ended(client: Any) -> None:
    """Has ``client`` forget connections that have ended, which it would not open again if it was made with ``once``."""
    idle = client.connection_pool._available_connections
    idle[:] = [connection for connection in idle if connection.is_connected]


async def check_role(client: Any, *, any_role: bool = False) -> None:
    """Returns when the server of ``client`` has answered; raises an error of redis-py if it is a replica by now."""
    await client.ping()  # a server that is loading its data answers HELLO, and nothing else
    if not any_role:
        with suppress(ResponseError):
            _check_role(await client.execute_command("HELLO"))


class Script:
    """A Lua script of ours, known to the server by its hash once it has run there.

    One that only reads is run as such, so that a user of the server who may write nothing can run it.
    """

    def __init__(self, text: str, *, only_reads: bool = False) -> None:
        self.text = text
        self._only_reads = only_reads
        self._hash = hashlib.sha1(text.encode()).hexdigest()  # noqa: S324 the server names scripts by it

    async def run(self, client: Any, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        """The reply of the script."""
        if self._only_reads:
            try:
                return await self._run(client, "_RO", keys, arguments)
            except ResponseError as error:
                if "unknown command" not in str(error):
                    raise
                self._only_reads = False  # a server before Redis 7 has no such command
        return await self._run(client, "", keys, arguments)

    async def _run(self, client: Any, suffix: str, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        try:
            return await client.execute_command(f"EVALSHA{suffix}", self._hash, len(keys), *keys, *arguments)
        except NoScriptError:
            return await client.execute_command(f"EVAL{suffix}", self.text, len(keys), *keys, *arguments)

    async def run_and_wait(
        self, client: Any, keys: Sequence[str], arguments: Sequence[Any], replicas: int, milliseconds: int
    ) -> tuple[Any, Mapping[str, Any] | None, int]:
        """The reply of the script, and how many replicas have confirmed what it wrote.

        It returns when ``replicas`` have, or after ``milliseconds``. Between the two is what the server told of its
        replication (``INFO``) after the script; None where it does not let this user see it.
        """
        for command, script in (("EVALSHA", self._hash), ("EVAL", self.text)):
            async with client.pipeline(transaction=False) as pipe:
                pipe.execute_command(command, script, len(keys), *keys, *arguments)
                # By the same connection, so that it is the same process that tells where it is.
                pipe.info("replication")
                pipe.execute_command("WAIT", replicas, milliseconds)  # of what this connection has written
                reply, replication, confirmed = await pipe.execute(raise_on_error=False)
            if not isinstance(reply, NoScriptError):
                break
        for outcome in (reply, confirmed):
            if isinstance(outcome, Exception):
                raise outcome
        return reply, None if isinstance(replication, Exception) else replication, int(confirmed)


@contextmanager
def as_unavailable(url: str) -> Iterator[None]:
    """Turns every failure of the client library into `Unavailable`, whose message is one line that names the server.

    It is `Refused` where the server has answered, and would have to be asked otherwise.

    No cancellation gets lost here: the library sends through ``asyncio.wait_for``, which before Python 3.12 swallows a
    cancellation that arrives at the moment in which the awaited operation completes.
    """
    task = asyncio.current_task()
    cancellations = task.cancelling() if task else 0
    try:
        yield
    except (RedisError, OSError, TimeoutError) as error:
        failure: Exception | None = error
    else:
        failure = None
    if task and task.cancelling() > cancellations:
        raise asyncio.CancelledError
    if failure:
        reason = _IN_SCRIPT.sub("", " ".join(str(failure).split())) or type(failure).__name__
        if found := _WRONG_KEY.search(reason):
            raise WrongKey(f"store {redact(url)}: {found[1]}: {CHECK_IT}") from failure
        kind = Refused if _is_refusal(failure) else Unavailable
        raise kind(f"store {redact(url)}: {reason}") from failure


async def find_wrong_key(client: Any, types: Mapping[str, str]) -> str:
    """Which of the keys in ``types`` has another type than that, in words; empty if none has that can be looked at."""
    for key, wanted in types.items():
        with suppress(NoPermissionError):
            if (actual := (await client.type(key)).decode()) not in ("none", wanted):
                return f"{key} is of the type {actual}, and must be a {wanted}"
    return ""


def is_wrong_type(error: BaseException) -> bool:
    """Whether the server refused a command because its key has a wrong type."""
    return "WRONGTYPE" in str(error) or "wrong kind of value" in str(error)


def _address(url: SentinelUrl, address: Address, ca: Path | None) -> Arguments:
    arguments: dict[str, Any] = {"host": address[0], "port": address[1]}
    if url.tls:
        arguments["connection_class"] = SSLConnection
        if ca:
            arguments["ssl_ca_certs"] = str(ca)
    return arguments


def _check_role(hello: Any) -> None:
    # In RESP2 the reply is a flat list of names and values, which some versions of the library turn into a dict.
    fields = hello if isinstance(hello, dict) else dict(zip(hello[::2], hello[1::2], strict=False))
    if fields.get(b"role", fields.get("role")) in REPLICA_ROLES:
        raise ConnectionFailed("this server is a replica, a read only replica, and not the primary")


def _is_refusal(error: Exception) -> bool:
    # Scripts of older servers wrap the error of a command in one of their own.
    is_read_only = isinstance(error, ReadOnlyError) or "READONLY" in str(error) or "read only replica" in str(error)
    return isinstance(error, ResponseError) and not is_read_only
