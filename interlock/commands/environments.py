"""``interlock env``: environments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from interlock.client import Client
from interlock.commands.deleting import confirm, show_deleted, with_all, yes_option
from interlock.commands.groups import Noun
from interlock.commands.names import deleted_environments
from interlock.commands.names import environments as complete
from interlock.commands.options import API, takes
from interlock.commands.output import counted, json_option, show, table
from interlock.errors import ApiRefused, BadSetting, InterlockError
from interlock.settings.table import Settings
from interlock.settings.values import MAX_DIGITS
from support.text import shorten

COLUMNS = ("id", "network", "enabled", "isolated", "revision")
DELETED_COLUMNS = ("id", "revision", "network", "until", "services", "instances")
QUOTA_COLUMNS = ("kind", "limit", "used", "is_default")
DAMAGED = "damaged"  # the kind of problem that an environment is which cannot be read
NOT_ISOLATED = {"isolated": False}  # the API leaves this field out where it is false

_environment = click.argument("environment", shell_complete=complete)


@click.group(cls=Noun)
def env() -> None:
    """Environments: list, get, create, enable, disable, isolate, open, quota, delete, undelete."""


@env.command("list")
@click.option("--deleted", is_flag=True, help="List those that were deleted lately, and can be brought back.")
@takes(*API)
@json_option
def list_(deleted: bool, settings: Settings, as_json: bool) -> None:
    """List all environments."""
    if deleted:
        found = Client.of(settings).get_all("deleted", of="environments")
        show(found, as_json, lambda value: table(value["environments"], DELETED_COLUMNS))
        return
    show(Client.of(settings).get_all("environments", of="environments"), as_json, _print_all)


@env.command()
@_environment
@takes(*API)
@json_option
def get(environment: str, settings: Settings, as_json: bool) -> None:
    """Show one environment, and how much is in it."""
    show(Client.of(settings).get("environments", environment), as_json, _print_whole)


@env.command()
@click.argument("environment")
@click.option("--replace-damaged", is_flag=True, help="Put an empty one in the place of one that is damaged.")
@takes(*API)
@json_option
def create(environment: str, replace_damaged: bool, settings: Settings, as_json: bool) -> None:
    """Create an environment, unless it exists."""
    query = {"replace": "damaged"} if replace_damaged else None
    show(Client.of(settings).put("environments", environment, body={}, query=query), as_json, _print)


@env.command()
@_environment
@takes(*API)
@json_option
def enable(environment: str, settings: Settings, as_json: bool) -> None:
    """Switch private networking on for an environment."""
    _change(environment, settings, as_json, {"enabled": True})


@env.command()
@_environment
@takes(*API)
@json_option
def disable(environment: str, settings: Settings, as_json: bool) -> None:
    """Switch private networking off for an environment; its services and records are kept."""
    _change(environment, settings, as_json, {"enabled": False})


@env.command()
@_environment
@takes(*API)
@json_option
def isolate(environment: str, settings: Settings, as_json: bool) -> None:
    """Let an environment resolve only its own names; nothing is forwarded for it."""
    _change(environment, settings, as_json, {"isolated": True})


@env.command("open")
@_environment
@takes(*API)
@json_option
def open_(environment: str, settings: Settings, as_json: bool) -> None:
    """Let an environment resolve names of the outside world again."""
    _change(environment, settings, as_json, {"isolated": False})


@env.command()
@_environment
@yes_option
@takes(*API)
@json_option
def delete(environment: str, yes: bool, settings: Settings, as_json: bool) -> None:
    """Delete an environment with all that is in it, and its tokens."""
    client, what = Client.of(settings), f"the environment {environment}"
    goes = _goes(client, environment)
    confirm(f"Delete {what}{with_all(goes)}, and its tokens?", yes=yes)
    client.delete("environments", environment)
    kept = _kept(client, environment)
    until = str(kept[-1]["until"]) if kept else ""
    way_back = f"'interlock env undelete {environment}' brings it back, until {until}" if until else ""
    show_deleted(what, goes, as_json, way_back, until, environment=environment)


@env.command()
@click.argument("environment", shell_complete=deleted_environments)
@click.option(
    "--revision", type=click.IntRange(min=1), help="Which one, where several of this id were deleted; else the last."
)
@takes(*API)
@json_option
def undelete(environment: str, revision: int | None, settings: Settings, as_json: bool) -> None:
    """Bring a deleted environment back: network, addresses and names, but not its tokens and its quota."""
    client = Client.of(settings)
    made = client.post("environments", environment, "undelete", body={"revision": revision})
    show(made, as_json, _print)
    _name_others(client, environment)


@env.command()
@_environment
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


def _goes(client: Client, environment: str) -> Mapping[str, int]:
    """How much is in ``environment``, by kind; nothing that is known of one that is damaged in the store."""
    try:
        return amounts(client.get("environments", environment))
    except ApiRefused as refusal:
        if refusal.kind != DAMAGED:
            raise
        return {}


def _kept(client: Client, environment: str) -> list[Any]:
    """The deleted environments of the id ``environment`` that can be brought back, the oldest first."""
    try:
        found = client.get_all("deleted", of="environments")["environments"]
    except InterlockError:
        return []  # the command has done what it is for: whatever the API lacks now is no failure of that
    return [one for one in found if one["id"] == environment]


def _name_others(client: Client, environment: str) -> None:
    """Says which others of this id are kept still, for one of them may be the one that is wanted."""
    for one in _kept(client, environment):
        what = counted(one["services"], "service")
        click.echo(
            f"another {environment} is kept, of revision {one['revision']}, with {what}: 'interlock env undelete"
            f" {environment} --revision {one['revision']}' brings that one back, once this one is deleted",
            err=True,
        )


def amounts(environment: Any) -> Mapping[str, int]:
    """How much is in ``environment``, as the API shows it: kind → number."""
    return {
        "service": len(environment["services"]),
        "instance": sum(len(service["instances"]) for service in environment["services"]),
        "record": len(environment["records"]),
        "peer": len(environment["peers"]),
    }


def _print(environment: Any) -> None:
    table([NOT_ISOLATED | environment], COLUMNS)


def _print_whole(environment: Any) -> None:
    _print(environment)
    click.echo(", ".join(counted(number, kind) for kind, number in amounts(environment).items()))


def _print_all(found: Any) -> None:
    table([NOT_ISOLATED | environment for environment in found["environments"]], COLUMNS)
    for environment in found["unreadable"]:
        click.echo(f"{shorten(environment)} is damaged in the store: 'interlock store check' says how", err=True)
