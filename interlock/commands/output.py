"""The output of commands: tables for people, JSON for programs.

On a terminal, tables are made to fit and have colours, unless ``NO_COLOR`` is set. Anywhere else, nothing is cut and
nothing is coloured.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import click

from support.text import printable

Row = Mapping[str, Any]

GAP = "  "  # between two columns
CUT = "…"  # at the end of what was cut
NARROWEST = 6  # characters of a column that is cut: less says nothing
TIME = re.compile(r"^(\d{4}-\d\d-\d\dT\d\d:\d\d):[\d.:]+Z$")  # to the minute it fits a table
LEAST_WANTED = ("public_key",)  # columns that are cut before all others: a person knows a key by its beginning
COLOURS = {
    "ready": "green",
    "starting": "yellow",
    "draining": "yellow",
}
WRONG = {"enabled": "no", "live": "no"}  # by column, the value that somebody should notice

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def show(value: Any, as_json: bool, human: Callable[[Any], None]) -> None:
    """Prints ``value``: as JSON, or by calling ``human`` with it."""
    if as_json:
        click.echo(json.dumps(value, indent=2, ensure_ascii=False))
    else:
        human(value)


def table(rows: Iterable[Row], columns: Sequence[str], *, err: bool = False) -> None:
    """Prints ``rows`` in aligned columns below their headings; a missing value is shown as ``-``.

    On a terminal, columns are cut until all of them fit, and a line says so. With ``err``, it prints to standard error.
    """
    lines = [[column.replace("_", " ").upper() for column in columns]]
    lines += [[cell(row.get(column)) for column in columns] for row in rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    fitting = _fit(widths, columns, width) if (width := terminal_width(err)) else widths
    for number, line in enumerate(lines):
        cells = [_cut(text, room).ljust(room) for text, room in zip(line, fitting, strict=True)]
        painted = [
            paint(text, bold=True, err=err) if number == 0 else _coloured(text, column, err=err)
            for text, column in zip([*cells[:-1], cells[-1].rstrip()], columns, strict=True)
        ]
        click.echo(GAP.join(painted).rstrip(), err=err)
    if fitting != widths:
        click.echo(f"(cut to {width} columns: a wider terminal, a pipe or --json shows all)", err=True)


def paint(text: str, *, err: bool = False, **style: Any) -> str:
    """``text`` in a style of `click.style`, where it goes to a terminal whose user wants colours."""
    return click.style(text, **style) if has_colours(err=err) else text


def has_colours(*, err: bool = False) -> bool:
    """Whether the output is a terminal and its user wants colours (no-color.org)."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb" and is_terminal(err=err)


def is_terminal(*, err: bool = False) -> bool:
    """Whether standard output, or with ``err`` standard error, is a terminal."""
    return (sys.stderr if err else sys.stdout).isatty()


def terminal_width(err: bool = False) -> int:
    """The columns of the terminal; 0 where the output is none, and nothing is ever cut."""
    return shutil.get_terminal_size((80, 24)).columns if is_terminal(err=err) else 0


def cell(value: Any) -> str:
    """One value as the cell of a table."""
    match value:
        case None | "" | []:
            return "-"
        case bool():
            return "yes" if value else "no"
        case list():
            return " ".join(cell(one) for one in value)
        case {"name": name, "number": number, "protocol": protocol}:
            return f"{name}:{number}/{protocol}"
        case _:
            text = printable(str(value))  # one row is one line
            return TIME.sub(r"\1Z", text)


def counted(number: int, noun: str) -> str:
    """How many of a thing: ``1 service``, ``2 services``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _fit(widths: Sequence[int], columns: Sequence[str], width: int) -> list[int]:
    """``widths`` so that all ``columns`` fit into ``width``; the widest are cut first, and no heading is."""
    fitting = list(widths)
    least = [min(was, max(NARROWEST, len(column))) for was, column in zip(widths, columns, strict=True)]
    while sum(fitting) + len(GAP) * (len(fitting) - 1) > width:
        spare = [number for number, now in enumerate(fitting) if now > least[number]]
        if not spare:
            break  # so narrow a terminal wraps the lines
        fitting[max(spare, key=lambda number: (columns[number] in LEAST_WANTED, fitting[number]))] -= 1
    return fitting


def _cut(text: str, room: int) -> str:
    return text if len(text) <= room else text[: room - 1] + CUT


def _coloured(text: str, column: str, *, err: bool) -> str:
    value = text.strip()
    if WRONG.get(column) == value:
        return paint(text, fg="red", err=err)
    return paint(text, fg=COLOURS[value], err=err) if value in COLOURS and column == "state" else text
