"""Whoever opens connections to the API and does nothing with them stops neither the API nor anything else."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import resource
import socket
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from urllib.parse import urlsplit

import dns.rcode
import pytest

from admin.http import connections
from admin.http.connections import Connections
from store.store import Store
from tests.admin.api import NO_TOKEN, ROOT, Api, E
from tests.resolver.messages import answers, query, read
from tests.resolver.servers import ask_tcp, ask_udp
from tests.security.installation import NOISY, Installation, installation
from tests.waiting import DEADLINE, until

IDLE = 1_300
FILES = 1024  # descriptors, the usual limit
STRANGER = "127.0.9.{}"
SLOW = 'interlock_api_connections_closed_total{reason="slow"}'


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with installation(tmp_path_factory.mktemp("up"), files=FILES) as made:
        yield made


@contextlib.contextmanager
def opened(up: Installation, number: int, sends: bytes) -> Iterator[list[socket.socket]]:
    """``number`` connections to the API, from ten addresses, on each of which ``sends`` was sent."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    address, made = (urlsplit(up.api).hostname, urlsplit(up.api).port), list[socket.socket]()
    try:
        for count in range(number):
            made.append(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
            made[-1].bind((STRANGER.format(count % 10 + 1), 0))
            made[-1].settimeout(DEADLINE)
            made[-1].connect(address)
            with contextlib.suppress(ConnectionError):  # it may be closed already, for a later one
                made[-1].send(sends)
        yield made
    finally:
        for sock in made:
            sock.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("sends", [b"", b"G", b"GET /v1/environments HTTP/1.1\r\nHost: x\r\nX-A: "])
def test_the_api_dns_and_forwarding_go_on(up: Installation, sends: bytes) -> None:
    ended = up.metric(SLOW)
    with opened(up, IDLE, sends):
        for _ in range(3):
            assert len(up.client.get("environments")["environments"]) == 2
        assert up.metric(SLOW) == ended  # answered beside them, and not once they had been silent for too long
        up.client.put("environments", "noisy", "services", f"web{len(sends)}", body={})
        server = ("127.0.0.1", up.port)
        packet = asyncio.run(ask_tcp(server, query("api"), NOISY.format(1)))
        assert answers(read(packet))
        asked = up.metric(up.upstream_queries)
        outside = asyncio.run(ask_udp(server, query(f"w{len(sends)}.example."), NOISY.format(1)))
        assert read(outside).rcode() == dns.rcode.SERVFAIL  # of an upstream that never answers, and was asked
        assert up.metric(up.upstream_queries) > asked
    assert up.metric('interlock_api_connections_closed_total{reason="most"}') > 0


class TestOneServer:
    """The same in small, on each store."""

    async def test_a_header_that_does_not_end_ends_the_connection(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(connections, "FIRST_HEADER", 1.0)  # in which what is sent at once has come
        monkeypatch.setattr(connections, "IDLE", 0.1)
        counted = Counter[str]()
        async with Api(store, connections=Connections(counted)) as api:
            for begun in (b"", b"GET /livez HTTP/1.1\r\n", b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\nGET /livez HT"):
                reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
                writer.write(begun)
                with contextlib.suppress(ConnectionResetError):
                    async with asyncio.timeout(DEADLINE):
                        assert (await reader.read()).count(b"200 OK") == (1 if begun.endswith(b"HT") else 0)
                writer.close()
            assert counted == {"slow": 3}

    async def test_a_client_that_has_too_many_loses_its_own(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(connections, "MOST_OF_ONE_CLIENT", 3)
        counted = Counter[str]()
        held = Connections(counted)
        async with Api(store, connections=held) as api:
            other = await asyncio.open_connection("127.0.0.1", api.port, local_addr=("127.0.0.2", 0))
            mine = [await asyncio.open_connection("127.0.0.1", api.port) for _ in range(6)]
            await until(lambda: counted["client"] == 3)
            assert len(held) == 4
            for reader, _ in mine[:3]:
                with contextlib.suppress(ConnectionResetError):
                    assert await reader.read() == b""
            for reader, writer in (mine[5], other):
                writer.write(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
                assert (await reader.readline()).startswith(b"HTTP/1.1 200")
            for _, writer in [*mine, other]:
                writer.close()

    async def test_who_has_sent_a_token_goes_last(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(connections, "MOST", 3)
        counted = Counter[str]()
        async with Api(store, connections=Connections(counted)) as api:
            assert (await api.get("/v1/environments")).status == 200  # keeps its connection, the oldest
            strangers = [
                await asyncio.open_connection("127.0.0.1", api.port, local_addr=("127.0.0.2", 0)) for _ in "1234"
            ]
            await until(lambda: counted["most"] == 2)
            assert (await api.get("/v1/environments")).status == 200
            assert counted["most"] == 2  # it was the same connection
            for _, writer in strangers:
                writer.close()

    async def test_who_is_being_answered_is_never_cut_off(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(connections, "MOST", 1)
        counted = Counter[str]()
        async with Api(store, connections=Connections(counted)) as api:
            reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
            head = f"PUT {E} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ROOT}\r\nContent-Type: application/json\r\n"
            writer.write(f"{head}Content-Length: 2\r\n\r\n".encode())
            await until(lambda: any(connection.is_busy for connection in api.connections))
            late, late_writer = await asyncio.open_connection("127.0.0.1", api.port)
            with contextlib.suppress(ConnectionResetError):
                assert await late.read() == b""
            writer.write(b"{}")
            assert (await reader.readline()).startswith(b"HTTP/1.1 201")
            for one in (writer, late_writer):
                one.close()


async def test_a_body_is_not_unpacked_before_its_sender_is_known(store: Store) -> None:
    """A megabyte that would be a gigabyte; with a token it is refused once it has become too large."""
    bomb = gzip.compress(bytes(1 << 30), 9)
    async with Api(store) as api:
        assert len(bomb) < api.context.limits.body_bytes
        for token, status in ((NO_TOKEN, 401), ("x", 401), (ROOT, 413)):
            began = time.process_time()
            refused = await api.put(E, None, raw=bomb, headers={"Content-Encoding": "gzip"}, token=token)
            assert refused.status == status
            assert time.process_time() - began < 0.5


async def test_what_is_packed_well_is_taken(store: Store) -> None:
    async with Api(store) as api:
        for encoding, packed in (("gzip", gzip.compress(b"{}")), ("deflate", zlib.compress(b"{}"))):
            path = f"/v1/environments/{encoding}"
            assert (await api.put(path, None, raw=packed, headers={"Content-Encoding": encoding})).status == 201
            cut = await api.put(path, None, raw=packed[:-1], headers={"Content-Encoding": encoding})
            assert (cut.status, cut.problem) == (400, "malformed")
        refused = await api.put(E, None, raw=b"{}", headers={"Content-Encoding": "br"})
        assert (refused.status, refused.problem) == (415, "unsupported-media-type")
