"""The query log of several workers, as one watcher sees it."""

from __future__ import annotations

from interlock.workers.lines import SharedQueryLog
from interlock.workers.messages import Seen, ToWorker, Unwatch, Watch
from resolver.querylog import Filter, Line

WANTED = Filter(name="api.railway.internal")


def line(name: str) -> Line:
    return Line(0.0, "shop", "fd12::1", "udp", name, "AAAA", "NOERROR", (), (), "environment", 0.1, None, False, "")


def test_workers_hear_of_watchers_also_those_that_come_later() -> None:
    told: list[ToWorker] = []
    later: list[ToWorker] = []
    log = SharedQueryLog(told.append)
    watch = log.watch(WANTED, most=5)
    log.repeat_to(later.append)
    log.unwatch(watch)
    assert told == [Watch(1, (WANTED,), 5), Unwatch(1)]
    assert later == [Watch(1, (WANTED,), 5)]
    log.take(Seen(1, line("api.railway.internal"), {}))  # one that was on its way
    assert watch.empty()


def test_a_watcher_gets_as_many_lines_a_second_as_it_asked_for_however_many_workers_there_are() -> None:
    now = 100.0
    log = SharedQueryLog(lambda _: None, lambda: now)
    watch = log.watch(WANTED, most=5)
    for _worker in range(2):
        for _ in range(5):
            log.take(Seen(1, line("api.railway.internal"), {}))
    log.take(Seen(1, line("api.railway.internal"), {"shop": 7}))
    assert watch.qsize() + watch.skipped.total() == 10 + 1 + 7
    assert watch.qsize() <= 5
