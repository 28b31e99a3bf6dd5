from __future__ import annotations

import time

import pytest

from support.clock import in_words, unix_milliseconds


def test_unix_time_is_given_in_whole_milliseconds() -> None:
    assert unix_milliseconds(lambda: 1_700_000_000.9876) == 1_700_000_000_987


def test_the_clock_is_that_of_the_system() -> None:
    before = time.time()
    assert before * 1000 - 1 <= unix_milliseconds() <= time.time() * 1000


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(-5, "0 s"), (0.9, "0 s"), (119, "119 s"), (120, "2 min"), (7199, "119 min"), (7200, "2 h"), (200_000, "2 days")],
)
def test_durations_in_words(seconds: float, words: str) -> None:
    assert in_words(seconds) == words
