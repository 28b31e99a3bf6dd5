"""The report: of all that is broken, the first in the order of causes is the cause."""

from __future__ import annotations

from interlock.doctor.marks import ORDER, Report, Standing, broken, ok, unknown, warning


def test_the_cause_is_what_comes_first_of_the_worst() -> None:
    marks = [
        broken("sockets", "no program listens", "start it"),
        warning("clock", "it is 9 s ahead", "set it"),
        broken("store", "it hangs", "start it"),
        ok("agent", "it answers"),
        unknown("host", "not known"),
    ]
    report = Report.of(marks)
    assert report.cause is marks[2]
    assert [mark.check for mark in report.marks] == ["agent", "store", "host", "clock", "sockets"]
    assert (report.standing, report.exit_status) == (Standing.BROKEN, 2)


def test_each_standing_has_its_exit_status() -> None:
    assert Report.of([]).exit_status == 0
    assert Report.of([ok("agent", "it answers")]).as_json()["cause"] is None
    for make in (unknown, warning):
        assert Report.of([ok("agent", "it answers"), make("clock", "ahead", "set it")]).exit_status == 1


def test_what_two_sources_say_alike_stands_once_and_every_check_has_a_place() -> None:
    assert len(Report.of([ok("clock", "it agrees"), ok("clock", "it agrees")]).marks) == 1
    assert len(set(ORDER)) == len(ORDER)
