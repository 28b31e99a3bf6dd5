"""Structured logs: every line is one event with its time, level, logger and fields, as JSON or for a console.

The parts log ``log.info("event_name", extra={...})``; the name says what happened, the fields say with what. Passwords
in URLs, and fields whose names are those of secrets, are also replaced here, in case a part should log one.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from collections.abc import Iterator
from typing import Any, TextIO

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}
_SECRET_FIELDS = frozenset({"authorization", "password", "secret", "token"})
_URL_PASSWORD = re.compile(r"(?<=://)([^\s/@:]*):[^\s/@]*@")
_PLAIN = re.compile(r"[!#-<>-~]+")


def configure(level: str, form: str, stream: TextIO | None = None) -> None:
    """Sends all logging to ``stream`` (standard error) from ``level`` upwards; ``form`` is ``json`` or ``console``."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else ConsoleFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.captureWarnings(capture=True)


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": _timestamp(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": _blank(record.getMessage()),
            **dict(_fields(record)),
        }
        if trace := _trace(self, record):
            line["traceback"] = trace
        return json.dumps(line, default=str, ensure_ascii=False)


class ConsoleFormatter(logging.Formatter):
    """One line for a person: ``12:03:04.123 info    watcher.watcher  loaded  environments=2``; a traceback follows."""

    def format(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%H:%M:%S", time.localtime(record.created))
        head = f"{moment}.{int(record.msecs):03d} {record.levelname.lower():<7} {record.name}"
        fields = "".join(f" {name}={_quote(value)}" for name, value in _fields(record))
        event = _blank(record.getMessage()).replace("\n", "\\n")
        trace = _trace(self, record)
        return f"{head}  {event} {fields}".rstrip() + ("\n" + trace if trace else "")


def _timestamp(record: logging.LogRecord) -> str:
    moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{moment}.{int(record.msecs):03d}Z"


def _fields(record: logging.LogRecord) -> Iterator[tuple[str, Any]]:
    for name, value in vars(record).items():
        if name in _STANDARD:
            continue
        if name.lower() in _SECRET_FIELDS:
            yield name, "…"
        else:
            yield name, _blank(value) if isinstance(value, str) else value


def _trace(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    return _blank(formatter.formatException(record.exc_info)) if record.exc_info and record.exc_info[0] else ""


def _blank(text: str) -> str:
    return _URL_PASSWORD.sub(r"\1:…@", text)


def _quote(value: Any) -> str:
    # Quoted unless all characters are plain, so that no value can look like another field or another line.
    text = ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return text if _PLAIN.fullmatch(text) else json.dumps(text, ensure_ascii=False)
