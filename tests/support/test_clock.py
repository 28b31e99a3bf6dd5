from __future__ import annotations

import time

from support.clock import unix_milliseconds


def test_unix_time_is_given_in_whole_milliseconds() -> None:
    assert unix_milliseconds(lambda: 1_700_000_000.9876) == 1_700_000_000_987


def test_the_clock_is_that_of_the_system() -> None:
    before = time.time()
    assert before * 1000 - 1 <= unix_milliseconds() <= time.time() * 1000
