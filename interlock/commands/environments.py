"""``interlock env``: environments."""

from __future__ import annotations

from typing import Any

import click

from interlock.client import Client
from interlock.commands.options import API, takes
from interlock.commands.output import json_option, show, table
from interlock.errors import BadSetting
from interlock.settings.table import Settings
from interlock.settings.values import MAX_DIGITS
from support.text import shorten

COLUMNS = ("id", "network", "enabled", "isolated", "revision")
QUOTA_COLUMNS = ("kind", "limit", "used", "is_default")
NOT_ISOLATED = {"isolated": False}  # the API leaves this field out where it is false


@click.group()
def env() -> None:
    """Environments: list, get, create, enable, disable, isolate, open, quota, delete."""


@env.command("list")
@takes(*API)
@json_option
def list_(settings: Settings, as_json: bool) -> None:
    """List all environments."""
    show(Client.of(settings).get_all("environments", of="environments"), as_json, _print_all)


@env.command()
@click.argument("environment")
@takes(*API)
@json_option
def get(environment: str, settings: Settings, as_json: bool) -> None:
    """Show one environment."""
    show(Client.of(settings).get("environments", environment), as_json, _print)


@env.command()
@click.argument("environment")
@takes(*API)
@json_option
def create(environment: str, settings: Settings, as_json: bool) -> None:
    """Create an environment, unless it exists."""
    show(Client.of(settings).put("environments", environment, body={}), as_json, _print)


@env.command()
@click.argument("environment")
@takes(*API)
@json_option
def enable(environment: str, settings: Settings, as_json: bool) -> None:
    """Switch private networking on for an environment."""
    _change(environment, settings, as_json, {"enabled": True})


@env.command()
@click.argument("environment")
@takes(*API)
@json_option
def disable(environment: str, settings: Settings, as_json: bool) -> None:
    """Switch private networking off for an environment; its services and records are kept."""
    _change(environment, settings, as_json, {"enabled": False})


@env.command()
@click.argument("environment")
@takes(*API)
@json_option
def isolate(environment: str, settings: Settings, as_json: bool) -> None:
    """Let an environment resolve only its own names; nothing is forwarded for it."""
    _change(environment, settings, as_json, {"isolated": True})


@env.command("open")
@click.argument("environment")
@takes(*API)
@json_option
def open_(environment: str, settings: Settings, as_json: bool) -> None:
    """Let an environment resolve names of the outside world again."""
    _change(environment, settings, as_json, {"isolated": False})


@env.command()
@click.argument("environment")
@takes(*API)
def delete(environment: str, settings: Settings) -> None:
    """Delete an environment with its services and records."""
    Client.of(settings).delete("environments", environment)


@env.command()
@click.argument("environment")
@click.option("--set", "limits", metavar="KIND=N", multiple=True, help="A limit; KIND=default ends it. Repeatable.")
@takes(*API)
@json_option
def quota(environment: str, limits: tuple[str, ...], settings: Settings, as_json: bool) -> None:
    """Show how much an environment may hold and holds, or set that for it alone."""
    client, path = Client.of(settings), ("environments", environment, "quota")
    found = client.put(*path, body=dict(map(_limit, limits))) if limits else client.get(*path)
    show(found, as_json, lambda value: table([{"kind": kind, **line} for kind, line in value.items()], QUOTA_COLUMNS))


def _limit(text: str) -> tuple[str, int | None]:
    kind, _, number = text.partition("=")
    if number != "default" and not (number.isascii() and number.isdigit() and len(number) <= MAX_DIGITS):
        raise BadSetting(f"--set {text!r} is not KIND=N: write it as in instances=50000, or instances=default")
    return kind, None if number == "default" else int(number)


def _change(environment: str, settings: Settings, as_json: bool, body: dict[str, bool]) -> None:
    client = Client.of(settings)
    client.get("environments", environment)  # so that a misspelt name is an error, and creates nothing
    show(client.put("environments", environment, body=body), as_json, _print)


def _print(environment: Any) -> None:
    table([NOT_ISOLATED | environment], COLUMNS)


def _print_all(found: Any) -> None:
    table([NOT_ISOLATED | environment for environment in found["environments"]], COLUMNS)
    for environment in found["unreadable"]:
        click.echo(f"{shorten(environment)} is damaged in the store: 'interlock store check' says how", err=True)
