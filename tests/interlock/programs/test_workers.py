"""`interlock resolver --workers 2`: several processes on one port, which clients, operators and agents take for one."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
from pathlib import Path

import pytest

from interlock.process.scheduling import SLICE
from interlock.programs.resolver import settings_not_followed
from interlock.settings.sources import read_settings
from interlock.workers.handed import Handed, Incumbent
from resolver.sockets import open_pairs
from resolver.wire.upstream_messages import pack_query
from tests.interlock.processes import DEADLINE, ROOT, interlock, run, started
from tests.interlock.programs.workers import (
    API,
    AT_ONCE,
    LOAD,
    Resolver,
    ask,
    ask_many,
    children,
    grown,
    has_answered,
    is_one,
    parent,
    put_load,
    resolver,
    runs,
    started_soon,
)
from tests.interlock.scheduled import policy_of, slice_of, with_slices
from tests.waiting import until, until_true
from watcher.feed.protocol import SOCKET
from watcher.feed.server import CONFIRM_DEADLINE, FeedServer
from zones.edits import PutInstance, PutService
from zones.names import Name
from zones.records import RRType

# What clients, operators and the agent see


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "[::1]:0"])
async def test_both_answer_and_their_metrics_add_up(tmp_path: Path, listen: str) -> None:
    async with resolver(tmp_path, listen=listen) as it:
        assert set(await ask_many(it.address, 100)) == {0}
        assert await it.metric("interlock_queries_total") == 100
        assert await it.metric("interlock_dns_workers") == 2
        hits, misses = (
            await it.metric("interlock_packet_cache_hits_total"),
            await it.metric("interlock_packet_cache_misses_total"),
        )
        assert (hits + misses, misses) == (100, 2)  # one for each process: each of them has answered
        assert "[+]workers ok\n" in await it.get("/readyz?verbose")


@with_slices
async def test_those_that_answer_run_sooner_than_the_program_with_the_zones(tmp_path: Path) -> None:
    async with resolver(tmp_path) as it:
        assert [slice_of(pid) for pid in it.workers] == [SLICE, SLICE]
        program = int(children(it.process.pid))
        assert (policy_of(program), slice_of(program)) == (os.SCHED_BATCH, slice_of(os.getpid()))
        os.kill(it.workers[0], signal.SIGKILL)
        await until(lambda: len(children(program).split()) == 2 and str(it.workers[0]) not in children(program).split())
        await until(lambda: all(slice_of(int(pid)) == SLICE for pid in children(program).split()))


async def test_tcp_is_answered_by_both(tmp_path: Path) -> None:
    async with resolver(tmp_path) as it:
        for _ in range(20):
            reader, writer = await asyncio.open_connection(*it.address)
            query = pack_query(7, API, RRType.AAAA)
            writer.write(len(query).to_bytes(2, "big") + query)
            length = int.from_bytes(await reader.readexactly(2), "big")
            assert (await reader.readexactly(length))[3] & 15 == 0
            writer.close()
        assert await it.metric("interlock_queries_total", 'transport="tcp"') == 20
        assert await it.metric("interlock_packet_cache_misses_total") == 2


async def test_tail_sees_the_look_ups_of_all(tmp_path: Path) -> None:
    async with resolver(tmp_path) as it:
        await until(lambda: (tmp_path / "tail.sock").exists())
        reader, writer = await asyncio.open_unix_connection(tmp_path / "tail.sock")
        writer.write(b'{"name": "api.railway.internal."}\n')
        # The workers hear of the watcher a moment later: until both show what they answer, then all of the next.
        async with asyncio.timeout(DEADLINE):
            while await it.metric("interlock_queries_total") == 0 or not reader._buffer:  # type: ignore[attr-defined]
                await ask_many(it.address, 20)
        before = await it.metric("interlock_queries_total")
        await ask_many(it.address, 100, Name.parse("nothing.api.railway.internal"))
        seen: list[str] = []
        async with asyncio.timeout(DEADLINE):
            while seen.count("nothing.api.railway.internal.") < 100:
                seen.append(json.loads(await reader.readline())["name"])
        assert await it.metric("interlock_queries_total") == before + 100
        writer.close()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP])
async def test_the_command_tail_goes_on_with_the_next_program(tmp_path: Path, number: signal.Signals) -> None:
    async with resolver(tmp_path) as it:
        with started(*interlock("tail", "--json", "--state-dir", str(tmp_path))) as tail:

            async def shows_more() -> bool:
                await ask_many(it.address, 5)
                return tail.read_more()

            await until_true(shows_more)
            os.kill(it.process.pid if number is signal.SIGHUP else parent(it.workers[0]), number)
            await started_soon(lambda: it.events("resolver_replaced") or it.events("resolver_renewed"))
            await started_soon(lambda: "waiting for the next one" in tail.errors)
            while tail.read_more():
                pass  # what the program before it has shown
            await until_true(shows_more)


async def test_the_agent_hears_of_a_revision_when_all_workers_serve_it(tmp_path: Path) -> None:
    async with resolver(tmp_path) as it:
        web = Name.parse("web.railway.internal")
        await it.publish(grown(PutService("web"), PutInstance("web", "w1")))
        assert set(await ask_many(it.address, 50, web)) == {0}  # each of them, and at once
        confirmed = it.agent.counts.unconfirmed
        os.kill(it.workers[0], signal.SIGSTOP)
        try:
            loop = asyncio.get_running_loop()
            began = loop.time()
            await it.publish(grown(PutService("web"), PutService("db"), PutInstance("db", "d1")))
            assert loop.time() - began >= CONFIRM_DEADLINE  # one of them does not serve it yet
            assert it.agent.counts.unconfirmed == confirmed + 1
        finally:
            os.kill(it.workers[0], signal.SIGCONT)
        assert set(await ask_many(it.address, 50, Name.parse("db.railway.internal"))) == {0}


async def test_names_of_a_pending_zone_wait_in_each_worker(tmp_path: Path) -> None:
    async with resolver(tmp_path) as it:
        after = grown(PutService("web"), PutInstance("web", "w1"))
        it.agent.announce(after)
        web = Name.parse("web.railway.internal")
        await until_true(lambda: _is_held(it, web))
        waiting = asyncio.gather(*(ask(it.address, web) for _ in range(20)))
        await it.agent.publish(after)
        assert set(await waiting) == {0}


async def _is_held(it: Resolver, name: Name) -> bool:
    """Whether all of some queries for ``name`` get no answer for a moment, where a denial would come at once."""
    return set(await asyncio.gather(*(ask(it.address, name, 0.2) for _ in range(20)))) == {None}


async def test_another_server_on_the_port_is_refused(tmp_path: Path) -> None:
    async with resolver(tmp_path) as it:
        listen = f"{it.address[0]}:{it.address[1]}"
        state = tmp_path / "other"
        command = interlock("resolver", "--agent-dir", str(tmp_path), "--state-dir", str(state), "--workers", "2")
        second = await asyncio.to_thread(run, *command, "--dns-listen", listen)
        assert second.returncode == 1
        assert "another server listens there" in second.stderr


# When a process ends


async def test_a_worker_that_is_killed_is_replaced_and_what_it_had_not_read_is_answered(tmp_path: Path) -> None:
    async with resolver(tmp_path) as it:
        victim = it.workers[0]
        load = asyncio.create_task(put_load(it.address, lambda: bool(it.events("worker_ended")), seconds=2.0))
        await until_true(lambda: has_answered(it, LOAD // 3))
        os.kill(victim, signal.SIGKILL)
        answered = await load
        assert answered.count(False) <= AT_ONCE  # no more than it can have had in its hands
        assert [event["pid"] for event in it.events("worker_ended")] == [victim]
        await until_true(lambda: is_one(it, "interlock_dns_workers", 2))
        assert await it.metric("interlock_dns_workers_replaced_total") == 1
        await it.publish(grown(PutService("web"), PutInstance("web", "w1")))  # the new one hears of changes as well
        assert set(await ask_many(it.address, 50, Name.parse("web.railway.internal"))) == {0}


async def test_queries_wait_in_the_socket_of_a_worker_that_is_gone(tmp_path: Path) -> None:
    async with resolver(tmp_path) as it:
        for pid in it.workers:
            os.kill(pid, signal.SIGSTOP)
        waiting = asyncio.gather(*(ask(it.address) for _ in range(200)))
        await asyncio.sleep(0)
        for pid in it.workers:
            os.kill(pid, signal.SIGKILL)
        assert set(await waiting) == {0}


async def test_sigterm_ends_all(tmp_path: Path) -> None:
    async with resolver(tmp_path) as it:
        pids = [*it.workers, it.process.pid]
    await until(lambda: not any(runs(pid) for pid in pids))


async def test_the_workers_end_with_the_launcher_also_when_it_is_killed(tmp_path: Path) -> None:
    agent = FeedServer(tmp_path / "agent" / SOCKET)
    await agent.start()
    agent.loaded()
    command = interlock(
        "resolver", "--agent-dir", str(tmp_path / "agent"), "--state-dir", str(tmp_path), "--workers", "2",
        "--dns-listen", "127.0.0.1:0", "--ops-listen", "", "--upstream", "none",
    )  # fmt: skip
    with started(*command) as process:
        it = Resolver(process, agent)
        await started_soon(lambda: it.events("workers_serving"))
        workers = it.workers
        process.end(signal.SIGKILL)
        await until(lambda: not any(runs(pid) for pid in workers))
    await agent.stop()


# Renewal


async def test_a_renewal_loses_no_query_and_runs_the_code_that_is_installed_by_then(tmp_path: Path) -> None:
    code = tmp_path / "code"
    for package in ("admin", "agent", "interlock", "resolver", "store", "support", "watcher", "zones"):
        shutil.copytree(ROOT / package, code / package, ignore=shutil.ignore_patterns("__pycache__"))
    async with resolver(tmp_path, environ={"PYTHONPATH": str(code), "PYTHONDONTWRITEBYTECODE": "1"}) as it:
        catalogue = code / "interlock" / "observe" / "catalogue.py"
        changed = catalogue.read_text().replace("Processes that answer DNS now", "Processes of the new release")
        before = it.workers
        load = asyncio.create_task(put_load(it.address, lambda: bool(it.events("resolver_renewed"))))
        await until_true(lambda: has_answered(it, LOAD // 3))
        catalogue.write_text(changed)
        os.kill(it.process.pid, signal.SIGHUP)
        answered = await load
        assert answered.count(False) == 0
        assert set(it.workers).isdisjoint(before)
        await started_soon(lambda: len(it.events("ready")) == 2)
        assert "Processes of the new release" in await it.get("/metrics")
        assert not any(runs(pid) for pid in before)
        await it.publish(grown(PutService("web"), PutInstance("web", "w1")))
        assert set(await ask_many(it.address, 50, Name.parse("web.railway.internal"))) == {0}


async def test_a_tcp_connection_in_use_outlives_its_worker(tmp_path: Path) -> None:
    async with resolver(tmp_path) as it:
        reader, writer = await asyncio.open_connection(*it.address)
        query = pack_query(7, API, RRType.AAAA)
        os.kill(it.process.pid, signal.SIGHUP)
        answered = 0
        while not it.events("resolver_renewed"):
            writer.write(len(query).to_bytes(2, "big") + query)
            try:
                await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
            except EOFError:
                break  # it has been served for as long as a worker that leaves may take
            answered += 1
            if it.events("workers_serving")[1:]:
                writer.close()  # of its own will, and not because somebody has closed it
                break
        assert writer.is_closing()
        assert answered
        await started_soon(lambda: it.events("resolver_renewed"))


async def test_a_new_program_that_does_not_start_changes_nothing(tmp_path: Path) -> None:
    settings = tmp_path / "settings.toml"
    settings.write_text("")
    async with resolver(tmp_path, "--config", str(settings)) as it:
        before = it.workers
        settings.write_text("no-such-setting = 1\n")
        os.kill(it.process.pid, signal.SIGHUP)
        await started_soon(lambda: it.events("resolver_not_renewed"))
        reason = it.events("resolver_not_renewed")[0]["reason"]
        assert reason == "the new program has ended with status 78: its own line above says why"
        assert set(await ask_many(it.address, 50)) == {0}
        settings.write_text("")
        os.kill(it.process.pid, signal.SIGHUP)
        await started_soon(lambda: it.events("resolver_renewed"))
        assert set(it.workers).isdisjoint(before)


async def test_clients_are_answered_where_the_new_program_cannot_serve_its_metrics(tmp_path: Path) -> None:
    settings = tmp_path / "settings.toml"
    settings.write_text('ops-listen = "127.0.0.1:0"')
    with socket.socket(socket.AF_INET) as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        async with resolver(tmp_path, "--config", str(settings), operations=()) as it:
            settings.write_text(f'ops-listen = "127.0.0.1:{other.getsockname()[1]}"')
            for number in (signal.SIGHUP, signal.SIGKILL):
                failed = len(it.events("part_failed"))
                os.kill(it.process.pid if number is signal.SIGHUP else parent(it.workers[0]), number)
                done = "resolver_renewed" if number is signal.SIGHUP else "resolver_replaced"
                await started_soon(lambda done=done: it.events(done))  # type: ignore[misc]
                await started_soon(lambda failed=failed: len(it.events("part_failed")) > failed)  # type: ignore[misc]
                assert set(await ask_many(it.address, 50)) == {0}
            assert {(event["part"], "in use" in str(event["reason"])) for event in it.events("part_failed")} == {
                ("operations", True)
            }
            other.close()
            await started_soon(lambda: len(it.events("http_listening")) == 2)
            assert "[+]operations ok\n" in await it.get("/readyz?verbose")


async def test_a_setting_that_only_a_restart_changes_is_named(tmp_path: Path) -> None:
    settings = tmp_path / "settings.toml"
    settings.write_text("workers = 2\n")
    async with resolver(tmp_path, "--config", str(settings), workers=()) as it:
        assert not it.events("setting_not_followed")
        settings.write_text("workers = 3\n")
        os.kill(it.process.pid, signal.SIGHUP)
        await started_soon(lambda: it.events("resolver_renewed"))
        assert [event["setting"] for event in it.events("setting_not_followed")] == ["workers"]
        assert len(it.workers) == 2


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        ({"workers": "2", "dns_listen": ["127.0.0.1:PORT", "[::1]:PORT"]}, []),
        ({"workers": "2", "dns_listen": ["[0:0::1]:PORT", "127.0.0.1:PORT"]}, []),
        ({"workers": "2", "dns_listen": ["127.0.0.1:0", "[::1]:0"]}, []),
        ({"workers": "2"}, []),
        ({"workers": "1", "dns_listen": ["127.0.0.1:PORT"]}, ["workers", "dns-listen"]),
        ({"workers": "3", "dns_listen": ["127.0.0.1:PORT", "[::1]:1"]}, ["workers", "dns-listen"]),
    ],
)
def test_settings_that_only_a_restart_changes(flags: dict[str, str | list[str]], named: list[str]) -> None:
    pairs = open_pairs([("127.0.0.1", 0)], 2)
    port = pairs[0][0].address[1]
    for more, mine in zip(open_pairs([("::1", port)], 2), pairs, strict=True):
        mine += more
    written = {
        name: [text.replace("PORT", str(port)) for text in value] if isinstance(value, list) else value
        for name, value in flags.items()
    }
    line, other = socket.socketpair()
    with line, other:
        handed = Handed(line, Incumbent.PROGRAM, False, pairs)
        assert list(settings_not_followed(read_settings(written, {}, program="resolver"), handed)) == named
    for pair in (pair for mine in pairs for pair in mine):
        pair.close()


# One process


async def test_with_one_there_is_no_other_process_and_nothing_to_renew(tmp_path: Path) -> None:
    command = interlock("resolver", "--agent-dir", str(tmp_path / "agent"), "--state-dir", str(tmp_path),
                        "--dns-listen", "127.0.0.1:0", "--ops-listen", "", "--upstream", "none")  # fmt: skip
    with started(*command) as process:
        it = Resolver(process, FeedServer(tmp_path / "agent" / SOCKET))
        await until(lambda: it.events("ready"))
        assert children(process.pid) == ""
        os.kill(process.pid, signal.SIGHUP)
        await started_soon(lambda: it.events("resolver_not_renewed"))
        assert await asyncio.to_thread(process.end, signal.SIGTERM) == 0


async def test_up_has_workers_as_well(tmp_path: Path) -> None:
    command = interlock(
        "up", "--demo", "--workers", "2", "--state-dir", str(tmp_path), "--dns-listen", "127.0.0.1:0",
        "--api-listen", "127.0.0.1:0", "--upstream", "none", "--log-format", "json",
    )  # fmt: skip
    with started(*command) as process:
        it = Resolver(process, FeedServer(tmp_path / "agent" / SOCKET))
        await started_soon(lambda: it.events("workers_serving") and it.events("ready"))
        await until_true(lambda: _answers(it, Name.parse("api.railway.internal")))
        assert set(await ask_many(it.address, 50)) == {0}
        assert await it.metric("interlock_packet_cache_misses_total") >= 2
        workers = it.workers
        assert await asyncio.to_thread(process.end, signal.SIGTERM) == 0
        assert not any(runs(pid) for pid in workers)


async def _answers(it: Resolver, name: Name) -> bool:
    return await ask(it.address, name) == 0
