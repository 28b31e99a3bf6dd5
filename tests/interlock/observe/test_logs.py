"""Log lines: one event each, in both forms, and never a secret."""

from __future__ import annotations

import io
import json
import logging
import re

import pytest

from interlock.observe import logs


def written(form: str, level: str = "info") -> io.StringIO:
    stream = io.StringIO()
    logs.configure(level, form, stream)
    return stream


def test_json_has_one_object_a_line() -> None:
    stream = written("json")
    logging.getLogger("watcher.watcher").info("loaded", extra={"environments": 2, "position": "1-0", "path": object})
    line = json.loads(stream.getvalue())
    assert stream.getvalue().count("\n") == 1
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line.pop("time"))
    assert line == {
        "level": "info", "logger": "watcher.watcher", "event": "loaded", "environments": 2, "position": "1-0",
        "path": "<class 'object'>",
    }  # fmt: skip


def test_console_has_one_line_for_a_person() -> None:
    stream = written("console")
    logging.getLogger("watcher.watcher").warning("gap", extra={"after": "1-0", "reason": 'a "b"\nc'})
    assert re.fullmatch(
        r'\d\d:\d\d:\d\d\.\d{3} warning watcher\.watcher  gap  after=1-0 reason="a \\"b\\"\\nc"\n', stream.getvalue()
    )


@pytest.mark.parametrize("form", ["json", "console"])
def test_secrets_are_blanked(form: str) -> None:
    stream = written(form)
    logger = logging.getLogger("x")
    logger.info("at redis://user:hunter2@host", extra={"token": "hunter2", "url": "rediss://:hunter2@host/0"})
    try:
        raise ValueError("redis://user:hunter2@host is gone")
    except ValueError:
        logger.exception("failed")
    assert "hunter2" not in stream.getvalue()
    assert "redis://user:…@host" in stream.getvalue()


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_traceback_is_kept(form: str) -> None:
    stream = written(form)
    try:
        raise ZeroDivisionError("oops")
    except ZeroDivisionError:
        logging.getLogger("x").exception("failed")
    assert "ZeroDivisionError: oops" in stream.getvalue()
    assert stream.getvalue().count("\n") == (1 if form == "json" else stream.getvalue().count("\n"))


def test_levels_below_the_wanted_one_are_silent() -> None:
    stream = written("json", "warning")
    logging.getLogger("x").info("quiet")
    assert stream.getvalue() == ""
