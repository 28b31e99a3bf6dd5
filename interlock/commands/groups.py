"""Groups of commands: one verb for one thing in the documents, and the words that people type for it anyway.

interlock instances ls    the same as    interlock instance list
interlock env rm          the same as    interlock env delete
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

import click

SENTENCE = 200  # characters; no first sentence of a help text is longer
# Each line is one verb: its names, in the order in which a noun's own command is looked for.
VERBS: Sequence[tuple[str, ...]] = (
    ("list", "ls"),
    ("get", "show", "describe"),
    ("put", "create", "add", "set", "new", "enrol", "enroll"),
    ("delete", "rm", "remove", "forget", "del"),
    ("undelete", "restore"),
)
NOUNS: Mapping[str, tuple[str, ...]] = {
    "env": ("environment", "environments", "envs"),
    "service": ("services", "svc"),
    "instance": ("instances",),
    "record": ("records",),
    "peer": ("peers",),
    "host": ("hosts",),
    "token": ("tokens",),
    "snapshot": ("snapshots",),
}


class Noun(click.Group):
    """The commands about one kind of thing. Whatever name a verb has in `VERBS`, the noun's command for it is found."""

    def __init__(self, *args: Any, also: Mapping[str, str] | None = None, **kwargs: Any) -> None:
        """``also`` holds further names of its commands: name → command."""
        super().__init__(*args, **kwargs)
        self.also = dict(also or {})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, or the one that another of its names means."""
        if found := super().get_command(ctx, self.also.get(cmd_name, cmd_name)):
            return found
        if cmd_name == "help":
            return _help_of(self, ctx)
        same = next((names for names in VERBS if cmd_name in names), ())
        return next((found for name in same if (found := super(Noun, self).get_command(ctx, name))), None)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As any group does, and an unknown word is answered with the command that was probably meant."""
        if self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            ctx.fail(f"No such command {args[0]!r}.{self._meant(ctx, args[0])}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the commands, in the order in which they stand in the code."""
        _write(formatter, "Commands", list(self.commands.values()), max(map(len, self.commands)))

    def _meant(self, ctx: click.Context, word: str) -> str:
        near = difflib.get_close_matches(word, self.list_commands(ctx), n=1)
        return f" Did you mean {near[0]!r}?" if near else ""


class Root(Noun):
    """All commands, in sections. The plural and the long form of a noun mean the noun."""

    def __init__(self, *args: Any, sections: Mapping[str, Sequence[click.Command]], **kwargs: Any) -> None:
        """``sections`` holds the commands below the headings of the help."""
        every = [command for commands in sections.values() for command in commands]
        also = {other: noun for noun, others in NOUNS.items() for other in others}
        super().__init__(*args, commands=every, also=also, **kwargs)
        self.sections = sections

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the commands below the headings of their sections."""
        for heading, commands in self.sections.items():
            _write(formatter, heading, commands, max(map(len, self.commands)))


def _write(formatter: click.HelpFormatter, heading: str, commands: Sequence[click.Command], widest: int) -> None:
    """Writes the first sentence of each command's help, whole."""
    with formatter.section(heading):
        formatter.write_dl([((one.name or "").ljust(widest), one.get_short_help_str(SENTENCE)) for one in commands])


def _help_of(group: click.Group, context: click.Context) -> click.Command:
    """``interlock GROUP help [COMMAND …]``."""

    @click.command("help")
    @click.argument("words", metavar="COMMAND", nargs=-1)
    def help_(words: tuple[str, ...]) -> None:
        """Show the help of a command."""
        print_help(group, context, words)

    return help_


def print_help(group: click.Group, context: click.Context, words: Sequence[str]) -> None:
    """Prints the help of the command that ``words`` name below ``group``, whose context is ``context``."""
    command: click.Command = group
    for word in words:
        if not isinstance(command, click.Group):
            context.fail(f"{context.command_path!r} has no commands below it.")
        _, found, _ = command.resolve_command(context, [word])
        assert found is not None
        context = click.Context(found, info_name=found.name, parent=context)
        command = found
    click.echo(command.get_help(context))
