"""The output of commands: values as the cells of a table."""

from __future__ import annotations

import pytest

from interlock.commands.output import cell


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "-"), ([], "-"), ("", "-"), (True, "yes"), (False, "no"), (0, "0"), (["a", "b"], "a b"),
        ({"name": "http", "number": 80, "protocol": "tcp"}, "http:80/tcp"), ("a\x1b[31m\n", "a\\x1b[31m\\n"),
    ],
)  # fmt: skip
def test_cells(value: object, shown: str) -> None:
    assert cell(value) == shown
