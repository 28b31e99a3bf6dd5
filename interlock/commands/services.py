"""``interlock service``: the services of an environment."""

from __future__ import annotations

import re
import sys
from typing import Any

import click

from interlock.commands.options import takes
from interlock.commands.output import json_option, show, table
from interlock.commands.target import SETTINGS, Target
from interlock.errors import ApiRefused
from interlock.settings.table import Settings

Port = dict[str, str | int]

COLUMNS = ("name", "subnet", "ports", "instances")
MASS_WITHDRAWAL = "mass-withdrawal"  # the kind of problem that asks for a confirmation
CONFIRMED = {"confirm": "withdrawal"}


@click.group()
def service() -> None:
    """Services of an environment: list, get, put, rename, delete."""


@service.command("list")
@takes(*SETTINGS)
@json_option
def list_(settings: Settings, as_json: bool) -> None:
    """List the services."""
    client, environment = Target.of(settings)
    found = client.get_all("environments", environment, "services", of="services")
    show(found, as_json, lambda value: table(map(_row, value["services"]), COLUMNS))


@service.command()
@click.argument("name")
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
@takes(*SETTINGS)
@json_option
def put(name: str, ports: list[Port], no_ports: bool, settings: Settings, as_json: bool) -> None:
    """Create a service, or change its ports if any are given."""
    client, environment = Target.of(settings)
    body = {"ports": ports} if ports or no_ports else {}
    show(client.put("environments", environment, "services", name, body=body), as_json, _print)


@service.command()
@click.argument("name")
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
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask, even if that deletes most names of the environment.")
@takes(*SETTINGS)
def delete(name: str, yes: bool, settings: Settings) -> None:
    """Delete a service with its instances and names."""
    client, environment = Target.of(settings)
    path = ("environments", environment, "services", name)
    try:
        client.delete(*path, query=CONFIRMED if yes else None)
    except ApiRefused as refusal:
        if refusal.kind != MASS_WITHDRAWAL:
            raise
        if not sys.stdin.isatty():
            raise ApiRefused(f"{refusal}, or give --yes", refusal.status, refusal.kind) from None
        click.confirm(f"{refusal}\nDelete it?", abort=True, err=True)
        client.delete(*path, query=CONFIRMED)


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
