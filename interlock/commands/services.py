"""``interlock service``: the services of an environment."""

from __future__ import annotations

import re
from typing import Any

import click

from interlock.commands.deleting import delete_part, show_deleted, yes_option
from interlock.commands.groups import Noun
from interlock.commands.names import services
from interlock.commands.options import takes
from interlock.commands.output import json_option, show, table
from interlock.commands.places import all_option, columns, lists
from interlock.commands.target import SETTINGS, Target
from interlock.commands.waiting import committed, wait_option
from interlock.settings.table import Settings

Port = dict[str, str | int]

COLUMNS = ("name", "subnet", "ports", "instances")

_name = click.argument("name", shell_complete=services)


@click.group(cls=Noun)
def service() -> None:
    """Services of an environment: list, get, put, rename, delete."""


@service.command("list")
@all_option
@takes(*SETTINGS)
@json_option
def list_(everywhere: bool, settings: Settings, as_json: bool) -> None:
    """List the services."""
    found = lists(settings, "services", everywhere=everywhere)
    show(
        found,
        as_json,
        lambda value: table(map(_row, value["services"]), columns(COLUMNS, everywhere=everywhere)),
    )


@service.command()
@_name
@takes(*SETTINGS)
@json_option
def get(name: str, settings: Settings, as_json: bool) -> None:
    """Show one service."""
    client, environment = Target.of(settings)
    show(client.get("environments", environment, "services", name), as_json, _print)


@service.command()
@click.argument("name")
@click.option(
    "--port",
    "ports",
    metavar="NAME:NUMBER/PROTOCOL",
    multiple=True,
    callback=lambda _context, _parameter, texts: [parse_port(text) for text in texts],
    help="A named port, as in http:8080/tcp. Repeatable.",
)
@click.option("--no-ports", is_flag=True, help="The service has no named ports.")
@wait_option
@takes(*SETTINGS)
@json_option
def put(name: str, ports: list[Port], no_ports: bool, wait: bool, settings: Settings, as_json: bool) -> None:
    """Create a service, or change its ports if any are given."""
    client, environment = Target.of(settings)
    body = {"ports": ports} if ports or no_ports else {}
    made = client.put("environments", environment, "services", name, body=body)
    show(committed(client, environment, made, wait=wait), as_json, _print)


@service.command()
@_name
@click.argument("new_name")
@click.option(
    "--overlap", type=click.IntRange(min=0), metavar="SECONDS", help="How long the old name is still answered."
)
@takes(*SETTINGS)
@json_option
def rename(name: str, new_name: str, overlap: int | None, settings: Settings, as_json: bool) -> None:
    """Give a service a new name."""
    client, environment = Target.of(settings)
    body = {"rename": new_name} | ({} if overlap is None else {"overlap_seconds": overlap})
    show(client.put("environments", environment, "services", name, body=body), as_json, _print)


@service.command()
@_name
@yes_option
@wait_option
@takes(*SETTINGS)
@json_option
def delete(name: str, yes: bool, wait: bool, settings: Settings, as_json: bool) -> None:
    """Delete a service with its instances and names."""
    client, environment = Target.of(settings)
    path = ("environments", environment, "services", name)
    what, goes = f"the service {name} of {environment}", {"instance": len(client.get(*path)["instances"])}
    delete_part(client, path, what, goes, yes=yes, wait=wait)
    show_deleted(what, goes, as_json, environment=environment, service=name)


def parse_port(text: str) -> Port:
    """The port that ``name:number`` or ``name:number/protocol`` names, as the API has it. Raises ``BadParameter``."""
    match = re.fullmatch(r"([^:/]+):([0-9]{1,5})(?:/(tcp|udp))?", text)
    if match is None:
        raise click.BadParameter(f"{text!r} is not NAME:NUMBER/PROTOCOL: write it as in http:8080/tcp.")
    return {"name": match[1], "number": int(match[2]), "protocol": match[3] or "tcp"}


def _print(service_: Any) -> None:
    table([_row(service_)], COLUMNS)


def _row(service_: Any) -> Any:
    return {**service_, "instances": len(service_["instances"])}
