"""``interlock record``: the custom records of an environment."""

from __future__ import annotations

from typing import Any

import click

from interlock.commands.options import takes
from interlock.commands.output import json_option, show, table
from interlock.commands.target import SETTINGS, Target
from interlock.settings.table import Settings

COLUMNS = ("name", "type", "ttl", "values")
DEFAULT_TTL = 60  # seconds; custom records change less often than services, and a mistake should not last long


@click.group()
def record() -> None:
    """Custom records of an environment: list, put, delete."""


@record.command("list")
@takes(*SETTINGS)
@json_option
def list_(settings: Settings, as_json: bool) -> None:
    """List the records."""
    client, environment = Target.of(settings)
    found = client.get_all("environments", environment, "records", of="records")
    show(found, as_json, lambda value: table(value["records"], COLUMNS))


@record.command()
@click.argument("name")
@click.argument("rtype", metavar="TYPE")
@click.argument("values", nargs=-1, required=True)
@click.option("--ttl", type=click.IntRange(min=1), default=DEFAULT_TTL, show_default=True, metavar="SECONDS")
@takes(*SETTINGS)
@json_option
def put(name: str, rtype: str, values: tuple[str, ...], ttl: int, settings: Settings, as_json: bool) -> None:
    """Set the values of a name below the zone, as in: record put db CNAME postgres.railway.internal."""
    client, environment = Target.of(settings)
    body = {"ttl": ttl, "values": list(values)}
    made = client.put("environments", environment, "records", name, rtype.upper(), body=body)
    show(made, as_json, _print)


@record.command()
@click.argument("name")
@click.argument("rtype", metavar="TYPE")
@takes(*SETTINGS)
def delete(name: str, rtype: str, settings: Settings) -> None:
    """Delete the values of one name and type."""
    client, environment = Target.of(settings)
    client.delete("environments", environment, "records", name, rtype.upper())


def _print(record_: Any) -> None:
    table([record_], COLUMNS)
