"""The output of commands: values as the cells of a table, and tables that fit the terminal."""

from __future__ import annotations

import pytest

from interlock.commands import output
from interlock.commands.output import cell, table

LONG = {"id": "a" * 30, "network": "fd12:1:2::/48", "state": "ready", "note": "b" * 60}
COLUMNS = ("id", "network", "state", "note")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "-"), ([], "-"), ("", "-"), (True, "yes"), (False, "no"), (0, "0"), (["a", "b"], "a b"),
        ({"name": "http", "number": 80, "protocol": "tcp"}, "http:80/tcp"), ("a\x1b[31m\n", "a\\x1b[31m\\n"),
        ("2026-11-28T10:30:07.123456Z", "2026-11-28T10:30Z"),
    ],
)  # fmt: skip
def test_cells(value: object, shown: str) -> None:
    assert cell(value) == shown


@pytest.mark.parametrize("width", [40, 80, 100])
def test_a_table_fits_the_terminal_and_says_so(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(output, "terminal_width", lambda _err: width)
    table([LONG, {**LONG, "id": "x"}], COLUMNS)
    printed = capsys.readouterr()
    assert all(len(line) <= width for line in printed.out.splitlines())
    assert "…" in printed.out
    assert "fd12:" in printed.out
    assert printed.err == f"(cut to {width} columns: a wider terminal, a pipe or --json shows all)\n"


def test_a_table_that_fits_is_not_cut(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(output, "terminal_width", lambda _err: 200)
    table([LONG], COLUMNS)
    printed = capsys.readouterr()
    assert (printed.err, "b" * 60 in printed.out) == ("", True)


def test_what_goes_to_no_terminal_is_neither_cut_nor_coloured(capsys: pytest.CaptureFixture[str]) -> None:
    table([{**LONG, "note": "b" * 500}], COLUMNS)
    printed = capsys.readouterr()
    assert ("b" * 500 in printed.out, "\x1b" in printed.out, printed.err) == (True, False, "")
