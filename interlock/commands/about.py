"""Commands about the product itself: its settings, its version, and completion for the shell."""

from __future__ import annotations

from importlib.metadata import version as installed_version
from typing import Any

import click
from click.shell_completion import get_completion_class

from interlock.commands.groups import print_help
from interlock.commands.options import takes
from interlock.commands.output import json_option, show, table
from interlock.settings.table import PROGRAMS, TABLE, UP, Settings


@click.command()
@click.argument("program", type=click.Choice(PROGRAMS), default=UP)
@takes(*TABLE)
@json_option
def config(program: str, settings: Settings, as_json: bool) -> None:
    """Show the settings that PROGRAM (up, resolver, admin, agent) would run with, and where each comes from."""
    rows = [
        {"setting": setting.key, "value": setting.show(getattr(settings, name)), "origin": settings.origins[name]}
        for name, setting in TABLE.items()
    ]
    show(rows, as_json, lambda value: table(value, ("setting", "value", "origin")))


@click.command()
@json_option
def version(as_json: bool) -> None:
    """Show the version."""
    show({"version": installed_version("interlock")}, as_json, _print_version)


@click.command("help")
@click.argument("words", metavar="COMMAND", nargs=-1)
@click.pass_context
def help_(context: click.Context, words: tuple[str, ...]) -> None:
    """Show the help of a command: interlock help env create."""
    root = context.find_root()
    assert isinstance(root.command, click.Group)
    print_help(root.command, root, words)


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the completion script: eval "$(interlock completion bash)"."""
    kind = get_completion_class(shell)
    assert kind is not None
    root = context.find_root()
    click.echo(kind(root.command, {}, "interlock", "_INTERLOCK_COMPLETE").source())


def _print_version(value: Any) -> None:
    click.echo(f"interlock {value['version']}")
