"""The output of commands: tables for people, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import click

from support.text import printable

Row = Mapping[str, Any]

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def show(value: Any, as_json: bool, human: Callable[[Any], None]) -> None:
    """Prints ``value``: as JSON, or by calling ``human`` with it."""
    if as_json:
        click.echo(json.dumps(value, indent=2, ensure_ascii=False))
    else:
        human(value)


def table(rows: Iterable[Row], columns: Sequence[str], *, err: bool = False) -> None:
    """Prints ``rows`` in aligned columns below their headings; a missing value is shown as ``-``.

    With ``err``, it prints to standard error.
    """
    lines = [[column.replace("_", " ").upper() for column in columns]]
    lines += [[cell(row.get(column)) for column in columns] for row in rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        click.echo("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip(), err=err)


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
            return printable(str(value))  # one row is one line
