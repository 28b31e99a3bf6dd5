"""docs/command-line.md is what the commands print, and it has all of them."""

from __future__ import annotations

import difflib
import re
import shlex

import click

from interlock import cli
from interlock.commands.groups import Noun
from tests.interlock.transcript.making import PAGE, make_transcript
from tests.interlock.transcript.script import LEFT_OUT, SCRIPT, Step

REMEDY = "what commands print has changed: if that is meant, run 'python -m tests.interlock.transcript'"


def test_the_page_is_what_the_commands_print() -> None:
    kept, made = _lines(PAGE.read_text()), _lines(make_transcript()[0])
    changes = "\n".join(difflib.unified_diff(kept, made, "docs/command-line.md", "now", lineterm="", n=1))
    assert not changes, f"{REMEDY}\n{changes}"


def test_every_command_is_in_it() -> None:
    shown = {_command(step.typed) for section in SCRIPT for step in section.steps if isinstance(step, Step)}
    every = set(_every(cli.interlock))
    assert every - shown - LEFT_OUT.keys() == set(), "put it into tests/interlock/transcript/script.py"
    assert shown & LEFT_OUT.keys() == set()


def _lines(page: str) -> list[str]:
    """The lines of ``page``. How far apart columns are depends on the networks, which are drawn at random."""
    return [re.sub(r" {2,}", "  ", line) for line in page.splitlines()]


def _command(line: str) -> str:
    """The command that ``line`` names, by its own name; empty where there is none of that name."""
    command: click.Command | None = cli.interlock
    path: list[str] = []
    for word in shlex.split(line)[1:]:
        if not isinstance(command, Noun):
            break
        command = command.get_command(click.Context(command), word)
        if command is None or command.name is None:
            break
        path.append(command.name)
    return " ".join(path)


def _every(group: click.Group, *path: str) -> list[str]:
    found = []
    for name, command in group.commands.items():
        found += _every(command, *path, name) if isinstance(command, click.Group) else [" ".join((*path, name))]
    return found
