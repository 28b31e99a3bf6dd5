"""``interlock token``: tokens of the admin API, each for one environment or, as an admin token, for all of them."""

from __future__ import annotations

from typing import Any

import click
from click.core import ParameterSource

from interlock.client import Client
from interlock.commands.deleting import confirm, show_deleted, yes_option
from interlock.commands.groups import Noun
from interlock.commands.names import tokens
from interlock.commands.options import takes
from interlock.commands.output import json_option, show, table
from interlock.commands.target import SETTINGS, Target
from interlock.errors import ApiRefused, BadSetting
from interlock.settings.table import Settings

COLUMNS = ("id", "name", "created", "expires", "read_only", "used")

_admin = click.option("--admin", is_flag=True, help="Admin tokens, which are for all environments and hosts.")


_id = click.argument("id_", metavar="ID", shell_complete=tokens)


@click.group(cls=Noun)
def token() -> None:
    """Tokens for an environment, or admin tokens: list, get, create, delete."""


@token.command("list")
@_admin
@takes(*SETTINGS)
@json_option
def list_(admin: bool, settings: Settings, as_json: bool) -> None:
    """List the tokens, without their secrets, which are shown only once."""
    client, path = _place(admin, settings)
    show(client.get(*path), as_json, lambda value: table([_row(found) for found in value["tokens"]], COLUMNS))


@token.command()
@_id
@_admin
@takes(*SETTINGS)
@json_option
def get(id_: str, admin: bool, settings: Settings, as_json: bool) -> None:
    """Show one token, without its secret."""
    client, path = _place(admin, settings)
    show(_find(client, path, id_), as_json, lambda found: table([_row(found)], COLUMNS))


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
@_id
@_admin
@yes_option
@takes(*SETTINGS)
@json_option
def delete(id_: str, admin: bool, yes: bool, settings: Settings, as_json: bool) -> None:
    """Delete a token, which ends its validity."""
    client, path = _place(admin, settings)
    found = _find(client, path, id_)
    what = f"the token {id_} ({found['name']})"
    confirm(f"Delete {what}? Who uses it is refused from then on.", yes=yes)
    client.delete(*path, id_)
    show_deleted(what, {}, as_json, token=id_)


def _place(admin: bool, settings: Settings) -> tuple[Client, tuple[str, ...]]:
    """A client of the API, and the path of the tokens that a command is about."""
    if admin:
        if click.get_current_context().get_parameter_source("environment") is ParameterSource.COMMANDLINE:
            raise BadSetting(
                f"an admin token is for all environments: leave out --admin for one of {settings.environment!r}, or"
                " leave out --environment"
            )
        return Client.of(settings), ("tokens",)
    client, environment = Target.of(settings)
    return client, ("environments", environment, "tokens")


def _find(client: Client, path: tuple[str, ...], id_: str) -> dict[str, Any]:
    found: list[dict[str, Any]] = client.get(*path)["tokens"]
    for one in found:
        if one["id"] == id_:
            return one
    raise ApiRefused(f"there is no token {id_!r} here: 'interlock token list' shows the ids", 404)


def _row(found: dict[str, Any]) -> dict[str, Any]:
    """A token as a row of the table: what is left out of it has its meaning in words."""
    return {"expires": "never", "read_only": False, "used": "never"} | found


def _print(made: Any) -> None:
    click.echo(made["token"])
