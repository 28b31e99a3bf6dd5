"""``interlock guard``: what is held because it has vanished from the store, and the word that it is deleted."""

from __future__ import annotations

import sys
from typing import Any

import click

from interlock.client import Client
from interlock.commands.groups import Noun
from interlock.commands.options import API, takes
from interlock.commands.output import json_option, show, table
from interlock.errors import BadSetting
from interlock.settings.table import Settings

COLUMNS = ("kind", "number", "seconds", "reason")
MEANING = (
    "Environments, names and hosts that the store lacks now are withdrawn everywhere: their names, routes and peers go,"
    " and their connections break."
)


@click.group(cls=Noun, also={"list": "show", "ls": "show"})
def guard() -> None:
    """What has vanished from the store and is served on: show, confirm."""


@guard.command("show")
@takes(*API)
@json_option
def show_(settings: Settings, as_json: bool) -> None:
    """Show what the process of the admin API holds; a resolver says it in /readyz?verbose, an agent in its mesh."""
    show(Client.of(settings).get("guard"), as_json, _print)


@guard.command()
@click.option("--yes", is_flag=True, help="Do not ask.")
@takes(*API)
@json_option
def confirm(yes: bool, settings: Settings, as_json: bool) -> None:
    """Confirm that all that the store lacks now is deleted: all resolvers and hosts withdraw it."""
    client = Client.of(settings)
    if not yes:
        if not sys.stdin.isatty():
            raise BadSetting("there is no terminal to ask on: give --yes to withdraw what the store lacks")
        _print(client.get("guard"), err=True)
        click.confirm(f"{MEANING}\nIs that what you want?", abort=True, err=True)
    show(
        client.post("guard", "confirm", body={}), as_json, lambda done: click.echo(f"confirmed: {done['confirmation']}")
    )


def _print(found: Any, *, err: bool = False) -> None:
    held = found["held"]
    if held is None:
        click.echo(
            "this process follows no environments: ask a resolver by /readyz?verbose, a host by 'interlock mesh'",
            err=err,
        )
    elif not held:
        click.echo("nothing is held", err=err)
    else:
        table([{**one, "number": len(one["names"])} for one in held], COLUMNS, err=err)
