"""What the programs in Python share: the loop of requests, and how their answers are written."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable


class NotThere(Exception):
    """There is no such name, or it has nothing of the kind."""


class NoSuchLookup(Exception):
    """The client has no look-up of this kind."""


class Failed(Exception):
    """The client could not find out."""


Look = Callable[[list[str]], Iterable[str]]
"""From the words of a request to what was found."""


def serve(look: Look) -> None:
    """Answers requests from standard input with ``look``, a line each (see tests/clients/session.py)."""
    for line in sys.stdin:
        began = time.monotonic()
        status, words = _answer(look, line.split())
        took = (time.monotonic() - began) * 1000
        print(f"{took:.3f}", status, *(word.replace(" ", "_") or "-" for word in words), flush=True)


def _answer(look: Look, request: list[str]) -> tuple[str, list[str]]:
    try:
        return "ok", list(look(request))
    except NotThere as error:
        return "none", [str(error)]
    except NoSuchLookup:
        return "na", []
    except Failed as error:
        return "fail", [str(error)]
