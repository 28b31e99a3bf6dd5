"""The soak: ``python -m tests.faults.soak --minutes 60``. Prints a line a minute, and a report at the end."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from aiohttp import ClientSession, ClientTimeout

from tests.faults.soak.clients import Client, churn, explain, scrape, watch
from tests.faults.soak.installations import Installation, start_separate, start_up
from tests.faults.soak.judge import History, Verdict, now
from tests.faults.soak.outages import Outages
from tests.faults.soak.report import Report
from tests.faults.soak.samples import Samples
from tests.faults.soak.upstream import Upstream
from tests.faults.soak.writer import Writer
from tests.store.servers import free_port

LATEST = 5.0  # seconds; an older answer is a fault unless the store was away: news comes within milliseconds
SILENT = 60.0  # seconds; no outage is as long
JUDGE_EVERY = 1.0  # seconds

Start = Callable[[Path, dict[str, str], int], Installation]


def main() -> int:
    options = parse_options()
    with tempfile.TemporaryDirectory(prefix="soak-") as made:
        directory = Path(options.directory or made)
        directory.mkdir(parents=True, exist_ok=True)
        return asyncio.run(soak(options, directory))


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60, help="how long (default: 60)")
    parser.add_argument("--environments", type=int, default=4, help="of each installation (default: 4)")
    parser.add_argument("--writes", type=float, default=1, help="a second to each environment (default: 1)")
    parser.add_argument("--queries", type=float, default=15, help="a second of each environment (default: 15)")
    parser.add_argument("--outages", type=float, default=90, help="seconds between two of one store (default: 90)")
    parser.add_argument("--sample", type=float, default=10, help="seconds between two samples (default: 10)")
    parser.add_argument("--directory", help="where logs and state go; kept (default: a temporary one)")
    return parser.parse_args()


async def soak(options: argparse.Namespace, directory: Path) -> int:
    """Runs the load for ``options.minutes`` and gives the exit status."""
    current = asyncio.current_task()
    assert current
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, current.cancel)
    async with AsyncExitStack() as stack:
        run = Soak(options, directory, stack)
        port = free_port()
        transport, server = await Upstream.start(port)
        stack.callback(transport.close)
        stack.callback(server.close)
        await run.start("up", 0, start_up, port)
        await run.start("separate", 1, start_separate, port)
        try:
            await run.watch()
        finally:
            await run.end_load()
    print(run.report.text(run.samples, run.counts, options.minutes), flush=True)
    return 0 if run.report.is_clean and all(level.is_level for level in run.samples.levels()) else 1


class Soak:
    """The load on two installations, and who watches them."""

    def __init__(self, options: argparse.Namespace, directory: Path, stack: AsyncExitStack) -> None:
        self.report, self.samples, self.counts = Report(), Samples(), Counter[str]()
        self._options = options
        self._directory = directory
        self._stack = stack
        self._installations: list[Installation] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self, name: str, number: int, start: Start, upstream: int) -> None:
        """Starts the installation ``name`` and the load on it."""
        options, report, counts = self._options, self.report, self.counts
        histories = [History(f"{name}-{one}", f"127.77.{number}.{one + 1}") for one in range(options.environments)]
        one = start(self._directory / name, {history.id: history.source for history in histories}, upstream)
        self._stack.callback(one.stop)
        self._installations.append(one)
        anonymous = await self._stack.enter_async_context(ClientSession(timeout=ClientTimeout(10)))
        await one.ready(anonymous)
        headers = {"Authorization": f"Bearer {one.token}"}
        session = await self._stack.enter_async_context(ClientSession(headers=headers, timeout=ClientTimeout(12)))
        outages = Outages(one, options.outages)
        for history in histories:
            writer = Writer(session, one.api, history, 1 / options.writes, report.note)
            await writer.create()
            client = Client(one.dns, history, options.queries, report.note)
            report.add(one.name, history, writer, client, outages)
            self._run(writer.run(), client.run())
        tail = one.state / "tail.sock"
        self._run(
            outages.run(),
            scrape(anonymous, one),
            watch(tail, {}, counts),
            watch(tail, {"failed": True}, counts),
            explain(session, one.api, histories[0], counts),
            churn(session, one.api, "churn", counts),
            judge(histories, outages, report),
        )

    def _run(self, *load: Coroutine[Any, Any, None]) -> None:
        self._tasks += map(asyncio.create_task, load)

    async def watch(self) -> None:
        """Samples the processes until the time is over, and prints a line a minute."""
        started, minute = now(), 1
        while now() < started + self._options.minutes * 60:
            await asyncio.sleep(self._options.sample)
            self.samples.take({name: pid for one in self._installations for name, pid in one.pids().items()})
            for ended in [f"{one.name}: {name}" for one in self._installations for name in one.dead()]:
                if not ended.endswith(": store"):  # which the outages kill
                    self.report.fail(f"{ended} has ended")
            for task in self._tasks:
                if task.done():
                    task.result()  # raises what ended it
            if now() > started + 60 * minute:
                minute += 1
                print(time.strftime("%H:%M:%S"), self.report.line(), self.samples.line(), flush=True)
        for history in self.report.histories:
            if now() - history.known_until > SILENT:
                self.report.fail(f"{history.id}: the API has not answered for {now() - history.known_until:.0f} s")

    async def end_load(self) -> None:
        """Ends all load. Again and again, for a library may catch a cancellation that comes with its own time-out."""
        pending = set(self._tasks)
        while pending:
            for task in pending:
                task.cancel()
            _done, pending = await asyncio.wait(pending, timeout=1)


async def judge(histories: list[History], outages: Outages, report: Report) -> None:
    """Judges answers until cancelled."""
    while True:
        await asyncio.sleep(JUDGE_EVERY)
        for history in histories:
            for seen, verdict, age in history.judge_waiting():
                what = f"{history.id}: {seen.label} {seen.rtype} was answered with {seen.outcome}"
                if verdict is Verdict.WRONG:
                    report.note(f"WRONG {what}, at revision {history.states[-1].view['revision']}")
                elif age > LATEST and not outages.cover(seen.sent):
                    report.fail(f"LATE by {age:.1f} s, and the store was there: {what}")


if __name__ == "__main__":
    sys.exit(main())
