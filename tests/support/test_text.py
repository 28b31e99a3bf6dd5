"""Text of others in one line: nothing of it moves a cursor or fills a screen."""

from __future__ import annotations

import pytest

from support.text import printable, shorten


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("production", "production"),
        ("grün", "grün"),
        ("two\nlines", "two\\nlines"),
        ("\x1b[2Jgone", "\\x1b[2Jgone"),
        ("\u202eright to left", "\\u202eright to left"),
        ("", ""),
    ],
)
def test_what_cannot_be_printed_is_written_out(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert shorten(text) == shown


def test_what_is_too_long_is_cut() -> None:
    assert shorten("y" * 80) == "y" * 80
    assert shorten("y" * 1_000_000) == "y" * 80 + "… (1000000 characters)"
