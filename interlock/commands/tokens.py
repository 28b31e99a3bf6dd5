"""``interlock token``: tokens of the admin API, each for one environment or, as an admin token, for all of them."""

from __future__ import annotations

from typing import Any

import click

from interlock.client import Client
from interlock.commands.options import takes
from interlock.commands.output import json_option, show, table
from interlock.commands.target import SETTINGS, Target
from interlock.settings.table import Settings

COLUMNS = ("id", "name", "created", "expires", "read_only", "used")

_admin = click.option("--admin", is_flag=True, help="Admin tokens, which are for all environments and hosts.")


@click.group()
def token() -> None:
    """Tokens for an environment, or admin tokens: create, list, delete."""


@token.command("list")
@_admin
@takes(*SETTINGS)
@json_option
def list_(admin: bool, settings: Settings, as_json: bool) -> None:
    """List the tokens, without their secrets, which are shown only once."""
    client, path = _place(admin, settings)
    show(client.get(*path), as_json, lambda value: table([_row(found) for found in value["tokens"]], COLUMNS))


@token.command()
@click.argument("name")
@_admin
@click.option("--expires", type=click.IntRange(min=1), metavar="DAYS", help="The token is good for DAYS days only.")
@click.option("--read-only", is_flag=True, help="The token opens nothing that changes anything.")
@takes(*SETTINGS)
@json_option
def create(name: str, admin: bool, expires: int | None, read_only: bool, settings: Settings, as_json: bool) -> None:
    """Make a token for one environment and print it, which is done only once; NAME says what the token is for."""
    client, path = _place(admin, settings)
    body = {"name": name, "expires_in_days": expires, "read_only": read_only}
    show(client.post(*path, body=body), as_json, _print)


@token.command()
@click.argument("id_", metavar="ID")
@_admin
@takes(*SETTINGS)
def delete(id_: str, admin: bool, settings: Settings) -> None:
    """Delete a token, which ends its validity."""
    client, path = _place(admin, settings)
    client.delete(*path, id_)


def _place(admin: bool, settings: Settings) -> tuple[Client, tuple[str, ...]]:
    """A client of the API, and the path of the tokens that a command is about."""
    if admin:
        return Client.of(settings), ("tokens",)
    client, environment = Target.of(settings)
    return client, ("environments", environment, "tokens")


def _row(found: dict[str, Any]) -> dict[str, Any]:
    """A token as a row of the table: what is left out of it has its meaning in words."""
    return {"expires": "never", "read_only": False, "used": "never"} | found


def _print(made: Any) -> None:
    click.echo(made["token"])
