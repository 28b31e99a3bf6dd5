"""The server on real sockets: where replies come from, what is held, what a connection may do."""

from __future__ import annotations

import asyncio
import contextlib
import random
import resource
import socket
from collections.abc import Awaitable, Callable
from ipaddress import ip_network
from itertools import count
from time import perf_counter

import dns.rcode
import pytest

from resolver.forward.forwarder import Forwarder
from resolver.forward.upstream import Routes
from resolver.net import connections, held, tcp
from resolver.net.mmsg import SLOTS
from resolver.server import Resolver
from resolver.wire.messages import Transport
from support.listening import ListenError
from tests import worlds
from tests.resolver.forward.liar import lying
from tests.resolver.forward.shell import forwarding
from tests.resolver.messages import answers, error_text, query, read
from tests.resolver.servers import DEADLINE, ask_tcp, ask_udp, serving
from tests.resolver.test_conformance import CASES as CONFORMANCE
from tests.resolver.wire.test_parser import CHAIN
from tests.waiting import until

PRODUCTION = worlds.compiled(worlds.production())
STAGING = worlds.compiled(worlds.staging())
SOURCE = worlds.PRODUCTION_SOURCE


@pytest.mark.parametrize("asked", ["127.0.0.1", "127.0.0.77", "::1"])
async def test_a_server_on_all_addresses_answers_from_the_one_that_was_asked(asked: str) -> None:
    """`ask_udp` connects its socket, so that a reply from any other address is never seen."""
    bindings = {**worlds.BINDINGS, ip_network("::1/128"): worlds.PRODUCTION}
    resolver = Resolver(worlds.PLATFORM, [("::" if ":" in asked else "0.0.0.0", 0)], bindings)
    await resolver.start()
    resolver.publish(PRODUCTION)
    resolver.loaded()
    server = (asked, resolver.addresses[0][1])
    source = "::1" if ":" in asked else SOURCE
    for ask in (ask_udp, ask_tcp):
        assert len(answers(read(await ask(server, query("single"), source)))) == 1
    await resolver.stop()


async def test_the_same_name_gives_each_environment_its_own() -> None:
    async with serving(PRODUCTION, STAGING) as resolver:
        server = resolver.addresses[0]
        ours = answers(read(await ask_udp(server, query("a1.api"), worlds.PRODUCTION_SOURCE)))
        theirs = answers(read(await ask_udp(server, query("a1.api"), worlds.STAGING_SOURCE)))
        assert (ours, theirs) == (["a1.api AAAA fd12:5b1e:90c4:1::1"], ["a1.api AAAA fd12:ab:cd:1::1"])


async def test_many_packets_at_once_are_each_answered_and_those_without_an_answer_cost_no_other() -> None:
    async with serving(PRODUCTION) as resolver:
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.bind((SOURCE, 0))
            sock.connect(resolver.addresses[0])
            total = 3 * SLOTS
            for number in range(total):
                sock.send(query("single", id_=number) if number % 3 else b"\xff" * (number % 12))
            seen: set[bytes] = set()
            async with asyncio.timeout(DEADLINE):
                while len(seen) < total - total // 3:
                    seen.add((await loop.sock_recv(sock, 4096))[:2])
        assert seen == {number.to_bytes(2, "big") for number in range(total) if number % 3}
        await until(lambda: resolver.counts.dropped["short"] == total // 3)


async def test_a_packet_larger_than_any_query_is_dropped() -> None:
    async with serving(PRODUCTION) as resolver:
        with pytest.raises(TimeoutError):
            await ask_udp(resolver.addresses[0], query("single") + bytes(9000), SOURCE, deadline=0.2)
        assert read(await ask_udp(resolver.addresses[0], query("single"), SOURCE)).answer


class TestHeldQueries:
    """No client gets a denial for what is only not known yet."""

    @pytest.mark.parametrize("ask", [ask_udp, ask_tcp])
    async def test_a_query_waits_for_the_environments(self, ask: Callable[..., asyncio.Future[bytes]]) -> None:
        async with serving(loaded=False) as resolver:
            asked = asyncio.ensure_future(ask(resolver.addresses[0], query("single"), SOURCE))
            await until(lambda: resolver.counts.held_loading == 1)
            assert not asked.done()
            resolver.publish(PRODUCTION)
            resolver.loaded()
            assert len(answers(read(await asked))) == 1

    async def test_on_all_addresses_the_late_reply_leaves_from_the_one_that_was_asked(self) -> None:
        async with serving(loaded=False, listen=("0.0.0.0",)) as resolver:
            server = ("127.0.0.77", resolver.addresses[0][1])
            asked = asyncio.ensure_future(ask_udp(server, query("single"), SOURCE))
            await until(lambda: resolver.counts.held_loading == 1)
            resolver.publish(PRODUCTION)
            resolver.loaded()
            assert len(answers(read(await asked))) == 1

    async def test_an_environment_that_is_known_already_does_not_wait(self) -> None:
        async with serving(PRODUCTION, loaded=False) as resolver:
            assert answers(read(await ask_udp(resolver.addresses[0], query("single"), SOURCE)))

    @pytest.mark.parametrize("ask", [ask_udp, ask_tcp])
    async def test_what_waits_too_long_is_a_failure_and_never_a_denial(
        self, ask: Callable[..., asyncio.Future[bytes]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(held, "LOADING_HOLD", 0.1)
        async with serving(loaded=False) as resolver:
            reply = read(await ask(resolver.addresses[0], query("single", payload=1232), SOURCE))
            assert reply.rcode() == dns.rcode.SERVFAIL
            assert "not loaded yet" in error_text(reply)

    async def test_only_so_many_queries_are_held(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(held, "MOST_HELD", 2)
        async with serving(loaded=False) as resolver:
            asked = [asyncio.ensure_future(ask_udp(resolver.addresses[0], query("single"), SOURCE)) for _ in range(3)]
            await until(lambda: resolver.counts.dropped["held_too_many"] == 1)
            resolver.publish(PRODUCTION)
            resolver.loaded()
            done, pending = await asyncio.wait(asked, timeout=0.5)
            assert (len(done), len(pending)) == (2, 1)
            for task in pending:
                task.cancel()

    @pytest.mark.parametrize("ask", [ask_udp, ask_tcp])
    async def test_one_source_does_not_take_the_room_of_another(
        self, ask: Callable[..., asyncio.Future[bytes]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(held, "MOST_HELD", 4)
        monkeypatch.setattr(held, "MOST_OF_ONE_SOURCE", 3)
        async with serving(loaded=False) as resolver:
            greedy = [
                asyncio.ensure_future(ask(resolver.addresses[0], query("single"), worlds.STAGING_SOURCE))
                for _ in range(5)
            ]
            await until(lambda: resolver.counts.held_loading == 5)  # more than all may wait, and three of them do
            asked = asyncio.ensure_future(ask(resolver.addresses[0], query("single"), SOURCE))
            await until(lambda: resolver.counts.held_loading == 6)
            resolver.publish(PRODUCTION)
            resolver.loaded()
            assert answers(read(await asked))
            for task in greedy:
                task.cancel()


class TestLatency:
    """Each query is counted once, with the time from its arrival to its reply."""

    DELAY = 0.05  # seconds

    @staticmethod
    async def counted(resolver: Resolver, *, forwarded: bool = False) -> float:
        """The seconds of the one query that was counted, with the forwarded ones or with the others."""
        both = resolver.counts.latency, resolver.counts.forwarded_latency
        await until(lambda: any(each.count for each in both))
        assert [each.count for each in both] == [not forwarded, forwarded]
        return both[forwarded].total

    @pytest.mark.parametrize("ask", [ask_udp, ask_tcp])
    async def test_of_an_answer(self, ask: Callable[..., Awaitable[bytes]]) -> None:
        async with serving(PRODUCTION) as resolver:
            started = perf_counter()
            await ask(resolver.addresses[0], query("single"), SOURCE)
            assert 0 < await self.counted(resolver) < perf_counter() - started

    @pytest.mark.parametrize("ask", [ask_udp, ask_tcp])
    async def test_of_a_packet_without_a_reply(self, ask: Callable[..., Awaitable[bytes]]) -> None:
        async with serving(PRODUCTION) as resolver:
            asked = asyncio.ensure_future(ask(resolver.addresses[0], b"\xff" * 12, SOURCE))
            assert await self.counted(resolver) < self.DELAY
            asked.cancel()
            await asyncio.gather(asked, return_exceptions=True)

    @pytest.mark.parametrize("ask", [ask_udp, ask_tcp])
    async def test_of_a_held_query(self, ask: Callable[..., Awaitable[bytes]]) -> None:
        async with serving(loaded=False) as resolver:
            started = perf_counter()
            asked = asyncio.ensure_future(ask(resolver.addresses[0], query("single"), SOURCE))
            await until(lambda: resolver.counts.held_loading == 1)
            await asyncio.sleep(self.DELAY)
            assert resolver.counts.latency.count == 0
            resolver.publish(PRODUCTION)
            resolver.loaded()
            await asked
            assert self.DELAY <= await self.counted(resolver) < perf_counter() - started

    @pytest.mark.parametrize("transport", Transport)
    async def test_of_a_forwarded_query(self, transport: Transport) -> None:
        async with lying() as upstream, forwarding(upstream) as client:
            started = perf_counter()
            await client.ask("late", transport=transport)
            assert self.DELAY <= await self.counted(client.resolver, forwarded=True) < perf_counter() - started

    @pytest.mark.parametrize("transport", Transport)
    async def test_of_a_forwarded_query_that_is_cached(self, transport: Transport) -> None:
        async with lying() as upstream, forwarding(upstream) as client:
            for number in (1, 2, 3):
                await client.ask("late", transport=transport)
                await until(lambda: client.resolver.counts.forwarded_latency.count == number)  # noqa: B023 awaited here
            assert client.resolver.counts.latency.count == 0

    @pytest.mark.parametrize("transport", Transport)
    async def test_of_a_query_that_was_held_and_then_forwarded(self, transport: Transport) -> None:
        async with lying() as upstream:
            forwarder = Forwarder(Routes.parse((str(upstream),)), worlds.PLATFORM)
            async with serving(loaded=False, forwarder=forwarder) as resolver:
                ask = ask_udp if transport is Transport.UDP else ask_tcp
                packet = query("small.liar.example.", "A")
                asked = asyncio.ensure_future(ask(resolver.addresses[0], packet, SOURCE))
                await until(lambda: resolver.counts.held_loading == 1)
                await asyncio.sleep(self.DELAY)
                resolver.publish(PRODUCTION)
                resolver.loaded()
                await asked
                assert await self.counted(resolver, forwarded=True) >= self.DELAY

    async def test_of_a_query_that_is_one_too_many_to_be_held(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(held, "MOST_HELD", 0)
        async with serving(loaded=False) as resolver:
            asked = asyncio.ensure_future(ask_udp(resolver.addresses[0], query("single"), SOURCE))
            assert await self.counted(resolver) < self.DELAY
            asked.cancel()
            await asyncio.gather(asked, return_exceptions=True)


class TestTcp:
    """RFC 7766: many queries on a connection, in any order; no client can stop the server from serving others."""

    @staticmethod
    async def connect(resolver: Resolver, source: str = SOURCE) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(*resolver.addresses[0], local_addr=(source, 0))

    @staticmethod
    def framed(packet: bytes) -> bytes:
        return len(packet).to_bytes(2, "big") + packet

    @staticmethod
    async def receive(reader: asyncio.StreamReader) -> bytes:
        async with asyncio.timeout(DEADLINE):
            return await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))

    async def test_many_queries_on_one_connection_in_any_pieces(self) -> None:
        async with serving(PRODUCTION) as resolver:
            reader, writer = await self.connect(resolver)
            stream = b"".join(self.framed(query("single", id_=number)) for number in range(50))
            for start in range(0, len(stream), 7):
                writer.write(stream[start : start + 7])
                await writer.drain()
            assert [(await self.receive(reader))[:2] for _ in range(50)] == [n.to_bytes(2, "big") for n in range(50)]
            writer.write(self.framed(query("api")))
            assert len(answers(read(await self.receive(reader)))) == 2
            writer.close()

    async def test_an_idle_connection_is_closed_and_a_used_one_is_not(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(tcp, "IDLE", 0.4)
        async with serving(PRODUCTION) as resolver:
            idle, idle_writer = await self.connect(resolver)
            used, used_writer = await self.connect(resolver)
            closed = asyncio.ensure_future(idle.read())
            while not closed.done():
                used_writer.write(self.framed(query("single")))
                await self.receive(used)
                await asyncio.sleep(0.05)
            assert closed.result() == b""
            used_writer.write(self.framed(query("single")))
            await self.receive(used)
            idle_writer.close()
            used_writer.close()

    async def test_a_sender_of_an_octet_at_a_time_is_cut_off(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(tcp, "IDLE", 0.3)
        async with serving(PRODUCTION) as resolver:
            reader, writer = await self.connect(resolver)
            closed = asyncio.ensure_future(reader.read())
            for octet in self.framed(query("single") + bytes(400)):
                if closed.done():
                    break
                writer.write(bytes([octet]))
                await asyncio.sleep(0.02)
            assert closed.done()
            writer.close()

    async def test_a_client_that_asks_and_never_reads_takes_little_memory(self) -> None:
        async with serving(PRODUCTION) as resolver:
            loop = asyncio.get_running_loop()
            flood = self.framed(query("all.crowd")) * 500_000  # 850 MB of answers, were they all given
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
                sock.setblocking(False)
                sock.bind((SOURCE, 0))
                await loop.sock_connect(sock, resolver.addresses[0])
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(1.0):
                        await loop.sock_sendall(sock, flood)
                assert read(await ask_tcp(resolver.addresses[0], query("single"), SOURCE)).answer
            grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
            assert grown < 40_000  # KiB

    @pytest.mark.parametrize(
        ("limit", "sources"), [("MOST", (SOURCE, "127.0.0.3")), ("MOST_OF_ONE_CLIENT", (SOURCE, SOURCE))]
    )
    async def test_the_least_recently_used_connection_makes_room(
        self, limit: str, sources: tuple[str, str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(connections, limit, 2)
        async with serving(PRODUCTION, STAGING) as resolver:
            held = [await self.connect(resolver, source) for source in sources]
            for reader, writer in reversed(held):
                writer.write(self.framed(query("api")))
                await self.receive(reader)
            held.append(await self.connect(resolver, SOURCE))
            assert await held[1][0].read() == b""
            for reader, writer in (held[0], held[2]):
                writer.write(self.framed(query("api")))
                await self.receive(reader)
            for _, writer in held:
                writer.close()
            assert resolver.counts.dropped["tcp_too_many"] == 1

    async def test_one_client_cannot_push_the_others_out(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(connections, "MOST_OF_ONE_CLIENT", 5)
        async with serving(PRODUCTION, STAGING) as resolver:
            reader, writer = await self.connect(resolver, "127.0.0.3")
            crowd = [await self.connect(resolver, SOURCE) for _ in range(50)]
            await until(lambda: resolver.counts.dropped["tcp_too_many"] == 45)
            writer.write(self.framed(query("api")))
            assert len(answers(read(await self.receive(reader)))) == 1
            for _, other in [*crowd, (reader, writer)]:
                other.close()

    async def test_ten_thousand_idle_and_slow_connections_do_no_harm(self) -> None:
        """New clients are served, and memory stays bounded."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        wanted = min(10_000, hard // 2 - 500)
        clients: list[socket.socket] = []
        asyncio.get_running_loop().set_debug(False)
        try:
            async with serving(PRODUCTION) as resolver:
                before = resident()
                for number in range(wanted):
                    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
                    clients.append(sock)
                    sock.bind((f"127.1.{number // 250}.{number % 250 + 1}", 0))
                    sock.setblocking(False)
                    with contextlib.suppress(BlockingIOError):
                        sock.connect(resolver.addresses[0])
                    if number % 100 == 99:
                        # Answered after those before it were accepted, so that the kernel never has more than it keeps:
                        # what it drops is sent again after seconds.
                        assert answers(read(await ask_tcp(resolver.addresses[0], query("single"), SOURCE)))
                        for slow in clients[-100::2]:
                            with contextlib.suppress(BlockingIOError):
                                slow.send(b"\0")
                for _ in range(100):
                    assert answers(read(await ask_tcp(resolver.addresses[0], query("single"), SOURCE)))
                    assert answers(read(await ask_udp(resolver.addresses[0], query("single"), SOURCE)))
                assert resident() - before < 150 << 20
        finally:
            for sock in clients:
                sock.close()
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class TestListening:
    """A server that cannot listen says why in one line, and what to do."""

    async def test_a_busy_port(self) -> None:
        async with serving(PRODUCTION) as resolver:
            other = Resolver(worlds.PLATFORM, resolver.addresses, {})
            with pytest.raises(ListenError, match=r"^cannot listen on 127\.0\.0\.1:\d+ \(UDP\): .*another server"):
                await other.start()

    async def test_an_address_that_the_machine_does_not_have(self) -> None:
        with pytest.raises(ListenError, match=r"^cannot listen on \[2001:db8::1\]:0 \(UDP\): .*does not have"):
            await Resolver(worlds.PLATFORM, [("2001:db8::1", 0)], {}).start()

    async def test_if_one_address_fails_none_is_kept(self) -> None:
        async with serving(PRODUCTION) as busy:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
                probe.bind(("127.0.0.1", 0))
                port = probe.getsockname()[1]
            with pytest.raises(ListenError):
                await Resolver(worlds.PLATFORM, [("127.0.0.1", port), busy.addresses[0]], {}).start()
            async with serving(PRODUCTION) as again:
                assert again.addresses


PACKETS = 100_000


async def test_a_hundred_thousand_broken_packets_do_no_harm() -> None:
    """Random and mutated packets over UDP and TCP: no exception, no lost service, and memory stays level."""
    seeds = [case.packet for case in CONFORMANCE] + [CHAIN, CHAIN[:10] + b"\0\1" + CHAIN[12:]]
    seeds += [
        query(name, rtype, payload=1232) for name in ("api", "all.crowd", "x.apps", "db2") for rtype in ("AAAA", "ANY")
    ]
    chance = random.Random(4711)
    async with serving(PRODUCTION, STAGING, source_rate=0) as resolver:
        server = resolver.addresses[0]
        loop = asyncio.get_running_loop()
        loop.set_debug(False)  # or each of the callbacks is timed and kept
        memory: list[int] = []
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.bind((SOURCE, 0))
            sock.connect(server)
            for number in count(1):
                sock.send(mutate(chance, seeds))
                if number % 50 == 0:
                    await asyncio.sleep(0)
                    drain(sock)
                if number % (PACKETS // 4) == 0:
                    memory.append(resident())
                    assert answers(read(await ask_udp(server, query("single"), SOURCE)))
                if number == PACKETS:
                    break
        for _ in range(200):
            reader, writer = await asyncio.open_connection(*server, local_addr=(SOURCE, 0))
            for _ in range(20):
                packet = mutate(chance, seeds)
                writer.write(len(packet).to_bytes(2, "big") + packet)
            writer.write_eof()
            # A message that is no query ends its connection.
            with contextlib.suppress(ConnectionResetError):
                async with asyncio.timeout(DEADLINE):
                    await reader.read()
            writer.close()
        assert answers(read(await ask_tcp(server, query("single"), SOURCE)))
        assert resolver.counts.errors == 0
        assert sum(resolver.counts.snapshot().values()) + resolver.counts.dropped.total() > PACKETS * 0.9
        assert memory[-1] - memory[1] < 20 << 20


def mutate(chance: random.Random, seeds: list[bytes]) -> bytes:
    if chance.random() < 0.2:
        return chance.randbytes(chance.randrange(600))
    packet = bytearray(chance.choice(seeds))
    for _ in range(chance.randrange(4)):
        match chance.randrange(4):
            case 0 if packet:
                packet[chance.randrange(len(packet))] = chance.randrange(256)
            case 1:
                del packet[chance.randrange(len(packet) + 1) :]
            case 2:
                at = chance.randrange(len(packet) + 1)
                packet[at:at] = chance.randbytes(chance.randrange(20))
            case 3 if len(packet) > 3:
                packet[2] = chance.randrange(256)
    return bytes(packet)


def drain(sock: socket.socket) -> None:
    try:
        while True:
            sock.recv(65535)
    except BlockingIOError:
        return


def resident() -> int:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize()
