"""Text that somebody else has written, made fit for one line of a log, a table or a reply."""

from __future__ import annotations

LONGEST = 80  # characters; an id or a key of ours is shorter


def printable(text: str) -> str:
    """``text`` with its control characters, such as a newline or an escape sequence, written out."""
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in text)


def shorten(text: str, longest: int = LONGEST) -> str:
    """The beginning of ``text``, printable, and how long it is where that is not all."""
    return printable(text if len(text) <= longest else f"{text[:longest]}… ({len(text)} characters)")
