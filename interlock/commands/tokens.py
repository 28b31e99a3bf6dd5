"""``interlock token``: tokens of the admin API, each for one environment."""

from __future__ import annotations

from typing import Any

import click

from interlock.commands.options import takes
from interlock.commands.output import json_option, show, table
from interlock.commands.target import SETTINGS, Target
from interlock.settings.table import Settings

COLUMNS = ("id", "name", "created")


@click.group()
def token() -> None:
    """Tokens for an environment: create, list, delete."""


@token.command("list")
@takes(*SETTINGS)
@json_option
def list_(settings: Settings, as_json: bool) -> None:
    """List the tokens, without their secrets, which are shown only once."""
    client, environment = Target.of(settings)
    found = client.get("environments", environment, "tokens")
    show(found, as_json, lambda value: table(value["tokens"], COLUMNS))


@token.command()
@click.argument("name")
@takes(*SETTINGS)
@json_option
def create(name: str, settings: Settings, as_json: bool) -> None:
    """Make a token for one environment and print it, which is done only once; NAME says what the token is for."""
    client, environment = Target.of(settings)
    show(client.post("environments", environment, "tokens", body={"name": name}), as_json, _print)


@token.command()
@click.argument("id_", metavar="ID")
@takes(*SETTINGS)
def delete(id_: str, settings: Settings) -> None:
    """Delete a token, which ends its validity."""
    client, environment = Target.of(settings)
    client.delete("environments", environment, "tokens", id_)


def _print(made: Any) -> None:
    click.echo(made["token"])
