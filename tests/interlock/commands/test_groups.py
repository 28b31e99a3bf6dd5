"""The words that people type: every verb means the same at every noun."""

from __future__ import annotations

import click
import pytest

from interlock import cli
from interlock.commands.groups import NOUNS, VERBS, Noun

GROUPS = {name: command for name, command in cli.interlock.commands.items() if isinstance(command, Noun)}
THINGS = ("env", "service", "instance", "record", "peer", "host", "token")


def found(*words: str) -> click.Command | None:
    """The command that ``words`` name."""
    command: click.Command | None = cli.interlock
    for word in words:
        assert isinstance(command, click.Group)
        command = command.get_command(click.Context(command), word)
    return command


@pytest.mark.parametrize("noun", THINGS)
@pytest.mark.parametrize(
    "same", [("ls", "list"), ("get", "show"), ("create", "put", "add", "set", "new"), ("rm", "delete", "remove")]
)
def test_a_verb_is_found_by_all_its_names(noun: str, same: tuple[str, ...]) -> None:
    commands = {found(name, verb) for name in (noun, *NOUNS[noun]) for verb in same}
    assert len(commands) == 1
    assert None not in commands


@pytest.mark.parametrize("noun", GROUPS)
def test_no_noun_has_two_commands_for_one_verb(noun: str) -> None:
    for names in VERBS:
        assert len(GROUPS[noun].commands.keys() & set(names)) <= 1


def every(command: click.Command, *path: str) -> list[tuple[str, click.Command]]:
    """All commands below ``command``, with their names."""
    if not isinstance(command, click.Group):
        return [(" ".join(path), command)]
    return [one for name, below in command.commands.items() for one in every(below, *path, name)]


SERVING = {"up", "resolver", "admin", "agent", "demo mesh"}  # they print no result
TEXTS = {"completion", "help"}  # what they print is for a shell, or is the help


def test_every_command_has_json() -> None:
    without = {
        name for name, command in every(cli.interlock) if not any("--json" in one.opts for one in command.params)
    }
    assert without == SERVING | TEXTS


def test_every_deletion_can_do_without_a_question() -> None:
    deletions = [
        command for name, command in every(cli.interlock) if name.rpartition(" ")[2] in ("delete", "forget", "confirm")
    ]
    assert len(deletions) == len(THINGS) + 1
    assert all(any("--yes" in one.opts for one in command.params) for command in deletions)


def test_every_first_sentence_is_whole_in_the_help() -> None:
    for name, command in every(cli.interlock):
        assert command.get_short_help_str(200)[-1] in ".`'):\"" or "." in (command.help or ""), name
        assert "..." not in command.get_short_help_str(200), name
