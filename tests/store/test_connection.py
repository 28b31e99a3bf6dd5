"""URLs of stores: which are taken, and that no password ever shows."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from redis.asyncio import Connection
from redis.exceptions import ReadOnlyError, ResponseError

from store import client
from store.client import arguments_of, as_unavailable, check_readable, open_client
from store.errors import Refused, Unavailable
from store.store import Store
from store.url import check_url, read_sentinel_url, redact

SECRET = "s3cr3t"
LARGE = 8 << 20  # octets; more than the buffers of a socket hold

GOOD = [
    "redis://localhost",
    "redis://localhost:6380/3",
    "redis://[::1]:6379/0",
    f"redis://:{SECRET}@localhost",
    f"redis://user:{SECRET}@localhost:6379",
    "rediss://localhost:6379?ssl_cert_reqs=none",
    "unix:///run/store.sock",
    f"unix://:{SECRET}@/run/store.sock?db=2",
    "sentinel://a,b:26380/main",
    f"sentinel://:{SECRET}@a:1,b:2,[::1]:3/main",
    f"sentinels://user:{SECRET}@a/main?db=2&sentinel_username=watch&sentinel_password={SECRET}",
]

BAD = {
    # url: fragment of the message
    "": "is not a Redis URL",
    "localhost:6379": "is not a Redis URL",
    "http://localhost": "is not a Redis URL",
    f"{SECRET}@localhost": "is not a Redis URL",
    f":{SECRET}@localhost:6379": "is not a Redis URL",
    "unix://": "names no socket",
    "unix://relative.sock": "names no socket",
    "sentinel://a:1": "lacks hosts or a primary",
    "sentinel:///main": "lacks hosts or a primary",
    f"sentinel://:{SECRET}@/main": "lacks hosts or a primary",
    f"sentinel://:{SECRET}@a:port/main": "cannot be read",
    "redis://[::1": "cannot be read",
    "redis://localhost:port": "cannot be read",
    f"redis://:{SECRET}/x@localhost": "cannot be read",  # a slash that should have been %2F
    f"redis://localhost?colour=red&password={SECRET}": "an option that redis-py does not know",
    f"redis://localhost?db=x&password={SECRET}": "Invalid value for 'db'",
    f"sentinel://a/main?colour=red&sentinel_password={SECRET}": "unknown option 'colour'",
    f"sentinel://a/main?db=x&sentinel_password={SECRET}": "Invalid value for 'db'",
}


@pytest.mark.parametrize("url", GOOD)
def test_a_good_url_is_taken(url: str) -> None:
    check_url(url)
    assert SECRET not in redact(url)
    check_readable(url)


@pytest.mark.parametrize(("url", "fragment"), BAD.items())
def test_a_bad_url_is_refused_without_its_password(url: str, fragment: str) -> None:
    with pytest.raises(ValueError, match=fragment) as refused:
        check_readable(url)
    assert SECRET not in str(refused.value)
    assert SECRET not in redact(url)


REDACTED = {
    "redis://localhost:6379/0": "redis://localhost:6379/0",
    f"redis://:{SECRET}@localhost:6379/0": "redis://:…@localhost:6379/0",
    f"redis://user:{SECRET}@localhost": "redis://user:…@localhost",
    f"redis://user:{SECRET}@{SECRET}@localhost": "redis://user:…@localhost",
    f"rediss://localhost?ssl_password={SECRET}&db=1": "rediss://localhost?ssl_password=…&db=1",
    f"redis://:{SECRET}://x@localhost": "redis://:…@localhost",
    f"{SECRET}@localhost": "…@localhost",
    "unix:///run/store.sock": "unix:///run/store.sock",
}


@pytest.mark.parametrize(("url", "redacted"), REDACTED.items())
def test_what_a_log_may_hold(url: str, redacted: str) -> None:
    assert redact(url) == redacted


@pytest.mark.parametrize("url", ["redis://localhost", "unix:///run/store.sock"])
def test_the_defaults_of_the_library_are_not_ours(url: str) -> None:
    connection: Any = open_client(arguments_of(url), timeout=7.5).connection_pool.make_connection()
    assert connection.socket_timeout == 7.5
    assert connection.protocol == 2
    assert connection.retry.get_retries() == 0
    assert connection.socket_connect_timeout == client.CONNECT_TIMEOUT


def test_sentinels_and_their_primary_are_read_from_the_url() -> None:
    url = read_sentinel_url(f"sentinel://user:{SECRET[:-1]}%2F@a,b:26380,[::1]:3/main?db=2&sentinel_password=w%2Fx")
    assert url.sentinels == (("a", 26379), ("b", 26380), ("::1", 3))
    assert (url.primary, url.db, url.tls) == ("main", 2, False)
    assert (url.username, url.password) == ("user", f"{SECRET[:-1]}/")
    assert (url.sentinel_username, url.sentinel_password) == (None, "w/x")
    assert read_sentinel_url("sentinels://a/main").tls


@pytest.mark.parametrize("error", [OSError("gone\nfar"), TimeoutError(), ConnectionResetError("gone far")])
async def test_every_failure_is_one_line_that_names_the_server(error: Exception) -> None:
    with pytest.raises(Unavailable) as unavailable, as_unavailable(f"redis://:{SECRET}@localhost"):
        raise error
    text = str(unavailable.value)
    assert text.startswith("store redis://:…@localhost: ")
    assert text.endswith(("gone far", "TimeoutError"))
    assert "\n" not in text


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ResponseError("WRONGTYPE Operation against a key"), Refused),
        (ReadOnlyError("You can't write against a read only replica."), Unavailable),
        (ResponseError("Error running script: -READONLY You can't write against a replica."), Unavailable),
        (ConnectionError("gone"), Unavailable),
    ],
)
async def test_what_the_server_refuses_is_no_lost_connection(error: Exception, kind: type[Unavailable]) -> None:
    with pytest.raises(Unavailable) as raised, as_unavailable("redis://localhost"):
        raise error
    assert type(raised.value) is kind


@pytest.mark.parametrize(
    "words",
    [("PING",), ("CLIENT LIST", "TYPE", "normal"), ("SET", "née", b"\xff\0", -5, 1 << 70, 0.25, "", "x" * 70_000)],
)
def test_commands_are_packed_as_by_the_library(words: tuple[Any, ...]) -> None:
    packed, expected = (kind().pack_command(*words) for kind in (client._Connection, Connection))
    assert b"".join(packed) == b"".join(expected)


async def test_a_command_takes_no_task_of_its_own_and_a_large_one_arrives_whole(store: Store) -> None:
    """The library has each write made by a task. Much of what is large must be waited for, and that is left to it."""
    loop, made = asyncio.get_running_loop(), list[Any]()

    def note(of: asyncio.AbstractEventLoop, work: Any, **more: Any) -> asyncio.Task[Any]:
        made.append(work)
        return asyncio.Task(work, loop=of, **more)

    async with store.connection.client() as redis:
        await redis.ping()  # which opens the connection
        loop.set_task_factory(note)
        try:
            await redis.set("large", b"x" * 3)
            assert made == []
            await redis.set("large", b"x" * LARGE)
        finally:
            loop.set_task_factory(None)
        assert await redis.strlen("large") == LARGE
        await redis.delete("large")
