"""Who goes first where processes share a core."""

from __future__ import annotations

import os

from interlock.process.scheduling import SLICE
from tests.interlock.processes import python, run
from tests.interlock.scheduled import slice_of, with_slices

pytestmark = with_slices


def says_what_it_gets(*lines: str) -> str:
    """What a process of its own prints that runs ``lines``: its policy, its nice value and its slice."""
    ending = (
        "from tests.interlock.scheduled import policy_of, slice_of",
        "print(policy_of(os.getpid()), os.getpriority(os.PRIO_PROCESS, 0), slice_of(os.getpid()))",
    )
    begin = ("import os", "from interlock.process.scheduling import give_way, go_first")
    done = run(*python("-c", "\n".join((*begin, *lines, *ending))))
    assert not done.returncode, done.stderr
    return done.stdout


def test_who_answers_runs_soon_and_keeps_its_priority() -> None:
    policy, nice, slice_ = map(int, says_what_it_gets("os.nice(1)", "assert go_first()").split())
    assert (policy, nice) == (os.SCHED_OTHER, min(19, 1 + os.getpriority(os.PRIO_PROCESS, 0)))
    assert slice_ == SLICE


def test_who_gives_way_has_an_ordinary_slice() -> None:
    policy, _nice, slice_ = map(int, says_what_it_gets("go_first()", "give_way()").split())
    assert policy == os.SCHED_BATCH
    assert slice_ == slice_of(os.getpid())


def test_a_child_of_one_that_has_given_way_can_go_first() -> None:
    policy, _nice, slice_ = map(int, says_what_it_gets("give_way()", "assert go_first()").split())
    assert (policy, slice_) == (os.SCHED_OTHER, SLICE)


def test_a_policy_that_somebody_chose_stays() -> None:
    program = (
        "import os; from interlock.process.scheduling import go_first; print(go_first(), os.sched_getscheduler(0))"
    )
    done = run("chrt", "--idle", "0", *python("-c", program))
    assert done.stdout.split() == ["False", str(os.SCHED_IDLE)]
