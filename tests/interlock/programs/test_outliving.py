"""`kill -9` of the program that has the zones: its workers answer until those of the next program do."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from tests.interlock.processes import stopped
from tests.interlock.programs.workers import (
    API,
    LOAD,
    Resolver,
    ask_many,
    children,
    exchange,
    grown,
    has_answered,
    parent,
    put_load,
    resolver,
    runs,
    started_soon,
)
from tests.waiting import until, until_true
from zones.edits import PutInstance, PutService
from zones.names import Name

STALE = b"from a snapshot that is"  # what replies say that nobody confirms
INTERPRETER = Path(sys.executable).resolve()
WEB = Name.parse("web.railway.internal")


def kill_program(it: Resolver) -> None:
    os.kill(parent(it.workers[0]), signal.SIGKILL)


async def are_stale(it: Resolver) -> bool:
    """Whether all workers answer, and say that nobody confirms what they say."""
    replies = await asyncio.gather(*(exchange(it.address) for _ in range(50)))
    return all(reply[3] & 15 == 0 and STALE in reply for reply in replies)


async def replaced(it: Resolver, before: list[int]) -> None:
    """Returns when another program has taken over; its answers are as ever, and of the old workers none is left."""
    await started_soon(lambda: it.events("resolver_replaced") or it.events("resolver_renewed"))
    assert set(it.workers).isdisjoint(before)
    await until(lambda: not any(runs(pid) for pid in before))
    assert not await are_stale(it)
    await it.publish(grown(PutService("web"), PutInstance("web", "w1")))
    assert set(await ask_many(it.address, 50, WEB)) == {0}


async def test_workers_answer_without_their_program_until_the_next_one_does(tmp_path: Path) -> None:
    async with resolver(tmp_path) as it:
        before = it.workers
        with stopped(it.process.pid):  # so that there is no other program
            kill_program(it)
            await until_true(lambda: are_stale(it))
            assert all(runs(pid) for pid in before)
        await replaced(it, before)
        ended = it.events("resolver_ended")
        assert [event["reason"] for event in ended] == ["by SIGKILL"]
        assert "go on with the zones that they have" in str(ended[0]["clients"])
        await until_true(lambda: is_ready(it))


async def is_ready(it: Resolver) -> bool:
    return "[+]workers ok\n" in await it.get("/readyz?verbose")


async def test_no_query_is_lost_when_the_program_is_killed_under_load(tmp_path: Path) -> None:
    async with resolver(tmp_path) as it:
        before = it.workers
        load = asyncio.create_task(put_load(it.address, lambda: bool(it.events("resolver_replaced"))))
        await until_true(lambda: has_answered(it, LOAD // 3))
        kill_program(it)
        answered = await load
        assert answered.count(False) == 0
        await replaced(it, before)


async def test_a_program_that_cannot_start_is_tried_again_while_the_workers_answer(tmp_path: Path) -> None:
    settings = tmp_path / "settings.toml"
    settings.write_text("")
    async with resolver(tmp_path, "--config", str(settings)) as it:
        before = it.workers
        settings.write_text("no-such-setting = 1\n")
        kill_program(it)
        await started_soon(lambda: len(it.events("resolver_ended")) >= 3)
        assert await are_stale(it)
        with pytest.raises(OSError, match="refused"):
            await it.get("/readyz")
        assert it.events("resolver_ended")[-1]["reason"] == "with status 78: its own line above says why"
        settings.write_text("")
        os.kill(it.process.pid, signal.SIGHUP)  # it need not wait for the next attempt
        await replaced(it, before)


async def test_a_program_whose_source_is_away_says_whose_answers_are_given(tmp_path: Path) -> None:
    async with resolver(tmp_path, "--snapshot-limit", "0") as it:
        before = it.workers
        await it.agent.stop()
        kill_program(it)
        await started_soon(lambda: len(it.events("http_listening")) == 2)
        verbose = await it.get("/readyz?verbose")
        assert "[-]names" in verbose
        assert "those of the program before this one, which has ended, answer" in verbose
        assert await are_stale(it)
        await it.agent.start()
        await replaced(it, before)


async def test_old_workers_end_when_a_program_serves_from_a_snapshot(tmp_path: Path) -> None:
    async with resolver(tmp_path) as it:
        before = it.workers
        await until(lambda: (tmp_path / "resolver.snapshot").exists())
        await it.agent.stop()
        kill_program(it)
        await started_soon(lambda: it.events("resolver_replaced"))
        assert set(it.workers).isdisjoint(before)
        assert await are_stale(it)
        assert "from a snapshot that is" in await it.get("/readyz?verbose")
        await it.agent.start()
        await until_true(lambda: is_fresh(it))


async def is_fresh(it: Resolver) -> bool:
    return STALE not in await exchange(it.address)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_no_worker_is_left_when_the_launcher_ends(tmp_path: Path, number: signal.Signals) -> None:
    settings = tmp_path / "settings.toml"
    settings.write_text("")
    async with resolver(tmp_path, "--config", str(settings), ends_by=number) as it:
        before = it.workers
        settings.write_text("no-such-setting = 1\n")
        kill_program(it)
        await started_soon(lambda: it.events("resolver_ended"))
        await until_true(lambda: are_stale(it))
    await until(lambda: not any(runs(pid) for pid in before))


async def test_workers_that_were_told_to_leave_do_not_go_on(tmp_path: Path) -> None:
    async with resolver(tmp_path) as it:
        before = it.workers
        os.kill(parent(before[0]), signal.SIGTERM)
        await started_soon(lambda: len(it.events("workers_serving")) == 2)
        assert it.events("resolver_ended")[0]["clients"] == "wait"
        assert not any(runs(pid) for pid in before)
        assert set(await ask_many(it.address, 50, API)) == {0}


async def test_why_a_new_program_has_ended_is_said_also_where_it_had_no_last_word(tmp_path: Path) -> None:
    async with resolver(tmp_path, "--snapshot-limit", "0") as it:
        program = parent(it.workers[0])
        await it.agent.stop()  # so that the new program waits for it
        os.kill(it.process.pid, signal.SIGHUP)
        await started_soon(lambda: len(children(it.process.pid).split()) == 2)
        (new,) = {int(pid) for pid in children(it.process.pid).split()} - {program}
        os.kill(new, signal.SIGKILL)
        await started_soon(lambda: it.events("resolver_not_renewed"))
        assert it.events("resolver_not_renewed")[0]["reason"] == "the new program has ended by SIGKILL"
        assert set(await ask_many(it.address, 50)) == {0}


async def test_without_an_interpreter_the_resolver_goes_on_and_says_so(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.symlink_to(INTERPRETER)
    python_path = os.pathsep.join(filter(None, sys.path))
    async with resolver(tmp_path, executable=str(python), environ={"PYTHONPATH": python_path}) as it:
        before = it.workers
        python.rename(tmp_path / "away")
        os.kill(it.process.pid, signal.SIGHUP)
        await started_soon(lambda: it.events("resolver_not_renewed"))
        reason = f"{python} cannot be started: No such file or directory"
        assert it.events("resolver_not_renewed")[0]["reason"] == reason
        assert not await are_stale(it)
        kill_program(it)
        await started_soon(lambda: len(it.events("resolver_not_started")) >= 2)
        assert {event["reason"] for event in it.events("resolver_not_started")} == {reason}
        assert await are_stale(it)
        (tmp_path / "away").rename(python)
        await replaced(it, before)


async def test_a_program_that_is_killed_while_another_one_starts_is_named(tmp_path: Path) -> None:
    async with resolver(tmp_path, "--snapshot-limit", "0") as it:
        before = it.workers
        await it.agent.stop()  # so that the new program waits for it
        os.kill(it.process.pid, signal.SIGHUP)
        await started_soon(lambda: len(children(it.process.pid).split()) == 2)
        kill_program(it)
        await started_soon(lambda: it.events("resolver_ended"))
        assert "go on with the zones that they have" in str(it.events("resolver_ended")[0]["clients"])
        await started_soon(lambda: len(it.events("http_listening")) == 2)
        assert "which has ended, answer" in await it.get("/readyz?verbose")
        assert await are_stale(it)
        await it.agent.start()
        await replaced(it, before)


async def test_clients_are_answered_by_the_workers_of_a_program_before_the_one_that_is_killed(tmp_path: Path) -> None:
    async with resolver(tmp_path, "--snapshot-limit", "0") as it:
        before = it.workers
        await it.agent.stop()
        kill_program(it)
        await started_soon(lambda: len(it.events("http_listening")) == 2)
        (waiting,) = children(it.process.pid).split()
        os.kill(it.process.pid, signal.SIGHUP)
        await started_soon(lambda: len(children(it.process.pid).split()) == 2)
        os.kill(int(waiting), signal.SIGKILL)
        await started_soon(lambda: len(it.events("resolver_ended")) == 2)
        assert "go on with the zones that they have" in str(it.events("resolver_ended")[1]["clients"])
        assert await are_stale(it)
        await it.agent.start()
        await replaced(it, before)


async def test_a_snapshot_will_do_when_the_program_ends_while_another_one_starts(tmp_path: Path) -> None:
    async with resolver(tmp_path) as it:
        before = it.workers
        await until(lambda: (tmp_path / "resolver.snapshot").exists())
        await it.agent.stop()
        os.kill(it.process.pid, signal.SIGHUP)
        await started_soon(lambda: len(it.events("restored_from_snapshot")) == 1)
        kill_program(it)
        await started_soon(lambda: it.events("resolver_replaced"))
        assert set(it.workers).isdisjoint(before)
        assert await are_stale(it)
        await it.agent.start()
        await until_true(lambda: is_fresh(it))
