"""``interlock env``: environments."""

from __future__ import annotations

from typing import Any

import click

from interlock.client import Client
from interlock.commands.options import API, takes
from interlock.commands.output import json_option, show, table
from interlock.settings.table import Settings

COLUMNS = ("id", "network", "enabled", "isolated", "revision")
OPEN = {"isolated": False}  # what the API tells only of those that are


@click.group()
def env() -> None:
    """Environments: list, get, create, enable, disable, isolate, open, delete."""


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
    """Create an environment, unless it is there."""
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
    """Switch private networking off for an environment; all that it holds stays."""
    _change(environment, settings, as_json, {"enabled": False})


@env.command()
@click.argument("environment")
@takes(*API)
@json_option
def isolate(environment: str, settings: Settings, as_json: bool) -> None:
    """Let an environment resolve its own names only; nothing is forwarded for it."""
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
    """Delete an environment and all that it holds."""
    Client.of(settings).delete("environments", environment)


def _change(environment: str, settings: Settings, as_json: bool, body: dict[str, bool]) -> None:
    client = Client.of(settings)
    client.get("environments", environment)  # a misspelt name is refused, not created
    show(client.put("environments", environment, body=body), as_json, _print)


def _print(environment: Any) -> None:
    table([OPEN | environment], COLUMNS)


def _print_all(found: Any) -> None:
    table([OPEN | environment for environment in found["environments"]], COLUMNS)
    for environment in found["unreadable"]:
        click.echo(f"{environment}: what the store holds of it cannot be read; the log says why", err=True)
