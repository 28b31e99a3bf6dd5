"""``interlock record``: the custom records of an environment."""

from __future__ import annotations

from typing import Any

import click

from interlock.commands.deleting import delete_part, show_deleted, yes_option
from interlock.commands.groups import Noun
from interlock.commands.names import records
from interlock.commands.options import takes
from interlock.commands.output import json_option, show, table
from interlock.commands.places import all_option, columns, lists
from interlock.commands.target import SETTINGS, Target
from interlock.commands.waiting import committed, wait_option
from interlock.errors import ApiRefused
from interlock.settings.table import Settings

COLUMNS = ("name", "type", "ttl", "values")
DEFAULT_TTL = 60  # seconds; custom records change less often than services, and a mistake should not last long

_name = click.argument("name", shell_complete=records)


@click.group(cls=Noun)
def record() -> None:
    """Custom records of an environment: list, get, put, delete."""


@record.command("list")
@all_option
@takes(*SETTINGS)
@json_option
def list_(everywhere: bool, settings: Settings, as_json: bool) -> None:
    """List the records."""
    found = lists(settings, "records", everywhere=everywhere)
    show(found, as_json, lambda value: table(value["records"], columns(COLUMNS, everywhere=everywhere)))


@record.command()
@_name
@click.argument("rtype", metavar="[TYPE]", required=False)
@takes(*SETTINGS)
@json_option
def get(name: str, rtype: str | None, settings: Settings, as_json: bool) -> None:
    """Show the values of one name: of one TYPE, or of all types that it has."""
    client, environment = Target.of(settings)
    if rtype is not None:
        show(client.get("environments", environment, "records", name, rtype.upper()), as_json, _print)
        return
    found = client.get_all("environments", environment, "records", of="records")
    found["records"] = [one for one in found["records"] if one["name"] == name.lower()]
    if not found["records"]:
        raise ApiRefused(f"there are no records {name!r} in {environment!r}: 'interlock record list' shows all", 404)
    show(found, as_json, lambda value: table(value["records"], COLUMNS))


@record.command()
@click.argument("name")
@click.argument("rtype", metavar="TYPE")
@click.argument("values", nargs=-1, required=True)
@click.option("--ttl", type=click.IntRange(min=1), default=DEFAULT_TTL, show_default=True, metavar="SECONDS")
@wait_option
@takes(*SETTINGS)
@json_option
def put(
    name: str, rtype: str, values: tuple[str, ...], ttl: int, wait: bool, settings: Settings, as_json: bool
) -> None:
    """Set the values of a name below the zone, as in: record put db CNAME postgres.railway.internal."""
    client, environment = Target.of(settings)
    body = {"ttl": ttl, "values": list(values)}
    made = client.put("environments", environment, "records", name, rtype.upper(), body=body)
    show(committed(client, environment, made, wait=wait), as_json, _print)


@record.command()
@_name
@click.argument("rtype", metavar="TYPE")
@yes_option
@wait_option
@takes(*SETTINGS)
@json_option
def delete(name: str, rtype: str, yes: bool, wait: bool, settings: Settings, as_json: bool) -> None:
    """Delete the values of one name and type."""
    client, environment = Target.of(settings)
    path = ("environments", environment, "records", name, rtype.upper())
    what = f"the record {name} {rtype.upper()} of {environment}"
    client.get(*path)  # so that nobody is asked about one that there is not
    delete_part(client, path, what, {}, yes=yes, wait=wait)
    show_deleted(what, {}, as_json, environment=environment, record=name, type=rtype.upper())


def _print(record_: Any) -> None:
    table([record_], COLUMNS)
