"""Connections to Redis or Valkey: the adapter around redis-py, whose exceptions end here.

This module overrides three defaults of redis-py: RESP3 (not every deployed server or proxy speaks it), a socket timeout
of 5 s (it would end a blocking read), and ten retries of any command (a commit that is retried after its reply was lost
would conflict with itself).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from store.errors import Unavailable
from store.keys import Keys

SCHEMES = ("redis", "rediss", "unix", "sentinel")
DEFAULT_SENTINEL_PORT = 26379
CONNECT_TIMEOUT = 2.0  # seconds; the caller learns that a server is gone before the caller itself gives up


class Connection:
    """A client of the server at ``url``, with the names of the keys there. It connects with its first command."""

    def __init__(self, url: str, keys: Keys, *, timeout: float) -> None:
        self.url = redact(url)
        self.keys = keys
        self.redis = connect(url, timeout=timeout)

    @contextmanager
    def client(self) -> Iterator[Any]:
        """The ``redis.asyncio.Redis`` to send commands with; every failure of a command becomes `Unavailable`."""
        with as_unavailable(self.url):
            yield self.redis

    def script(self, text: str) -> Any:
        """The Lua script ``text``, to be called with ``keys`` and ``args`` inside `client`."""
        return self.redis.register_script(text)

    async def close(self) -> None:
        """Closes the connection."""
        await self.redis.aclose()


def connect(url: str, *, timeout: float) -> Any:
    """A ``redis.asyncio.Redis`` of the server at ``url``; ``timeout`` in seconds bounds every wait for a reply.

    It is typed as Any because redis-py types each reply as the union of the replies of all its modes.

    ``redis://``, ``rediss://`` and ``unix://`` as in redis-py; ``sentinel://[:PASSWORD@]HOST[:PORT],…/MASTER``
    follows the master that the Sentinels name. Raises ``ValueError`` for anything else.
    """
    check_url(url)
    options: dict[str, Any] = {
        "socket_timeout": timeout,
        "socket_connect_timeout": CONNECT_TIMEOUT,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
    }
    if url.startswith("sentinel:"):
        return _connect_by_sentinel(url, options)
    client: Any = Redis.from_url(url, **options)
    try:
        client.connection_pool.make_connection()  # opens nothing; it is the first call that reads the URL's options
    except TypeError:
        raise ValueError(f"{redact(url)!r} has an option that redis-py does not know: see its Redis.from_url") from None
    return client


def check_url(url: str) -> None:
    """Raises ``ValueError`` if ``url`` does not say how to reach a server."""
    try:
        parts = urlsplit(url)
        ports = [_host_and_port(host)[1] for host in _hosts(parts) if parts.scheme != "unix"]
    except ValueError:
        # The library's message quotes the text that it could not read, which may be a piece of the password.
        raise ValueError(f"{redact(url)!r} cannot be read: is the port a number, and the password %-encoded?") from None
    if parts.scheme not in SCHEMES:
        raise ValueError(f"{redact(url)!r} is not a Redis URL: it starts with one of {', '.join(SCHEMES)} and '://'")
    if parts.scheme == "unix" and not parts.path:
        raise ValueError(f"{redact(url)!r} names no socket: write unix:///path/to/socket")
    if parts.scheme == "sentinel" and not (ports and parts.path.strip("/")):
        raise ValueError(f"{redact(url)!r} lacks hosts or a master: write sentinel://HOST:PORT,HOST:PORT/MASTER")


def redact(url: str) -> str:
    """``url`` without its password, fit for a log."""
    url = re.sub(r"(password=)[^&]*", r"\1…", url)
    userinfo, at, rest = url.rpartition("@")
    if not at:
        return url
    scheme, separator, user = userinfo.partition("://")
    # In a URL without a scheme, all that stands before the "@" may be the password.
    return f"{scheme}://{user.partition(':')[0]}:…@{rest}" if separator else f"…@{rest}"


@contextmanager
def as_unavailable(url: str) -> Iterator[None]:
    """Turns every failure of the client library into `Unavailable`, whose message is one line that names the server.

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
        reason = " ".join(str(failure).split()) or type(failure).__name__
        raise Unavailable(f"store {redact(url)}: {reason}") from failure


def _connect_by_sentinel(url: str, options: dict[str, Any]) -> Any:
    parts = urlsplit(url)
    user, _, password = parts.netloc.rpartition("@")[0].partition(":")
    sentinel: Any = Sentinel(  # type: ignore[no-untyped-call]
        [(host, port or DEFAULT_SENTINEL_PORT) for host, port in map(_host_and_port, _hosts(parts))],
        sentinel_kwargs={**options},
        username=unquote(user) or None,
        password=unquote(password) or None,
        **options,
    )
    return sentinel.master_for(parts.path.strip("/"), connection_pool_class=_MasterPool)


class _MasterPool(SentinelConnectionPool):
    """Connections to the master. Closing it also closes those to the Sentinels, which the library leaves open."""

    async def aclose(self) -> None:
        await super().aclose()
        await self.sentinel_manager.aclose()


def _hosts(parts: SplitResult) -> list[str]:
    return [host for host in parts.netloc.rpartition("@")[2].split(",") if host]


def _host_and_port(text: str) -> tuple[str, int | None]:
    parts = urlsplit("//" + text)
    return parts.hostname or "", parts.port
