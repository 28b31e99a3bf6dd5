"""``interlock instance``: the instances of a service."""

from __future__ import annotations

from typing import Any

import click

from interlock.commands.options import takes
from interlock.commands.output import json_option, show, table
from interlock.commands.target import SETTINGS, Target
from interlock.settings.table import Settings
from zones.model import State

COLUMNS = ("id", "address", "state", "region", "host")


@click.group()
def instance() -> None:
    """Instances of a service: list, put, delete."""


@instance.command("list")
@click.argument("service")
@takes(*SETTINGS)
@json_option
def list_(service: str, settings: Settings, as_json: bool) -> None:
    """List the instances of a service."""
    client, environment = Target.of(settings)
    found = client.get_all("environments", environment, "services", service, "instances", of="instances")
    show(found, as_json, lambda value: table(value["instances"], COLUMNS))


@instance.command()
@click.argument("service")
@click.argument("id_", metavar="ID")
@click.option(
    "--state",
    type=click.Choice([state.value for state in State]),
    help="Only ready instances are answered under the name of their service.",
)
@click.option("--host", help="The host that it runs on.")
@click.option("--region", help="The region that it runs in.")
@takes(*SETTINGS)
@json_option
def put(service: str, id_: str, settings: Settings, as_json: bool, **given: str | None) -> None:
    """Create an instance, or change the fields that are given; print its address."""
    client, environment = Target.of(settings)
    body = {field: value for field, value in given.items() if value is not None}
    made = client.put("environments", environment, "services", service, "instances", id_, body=body)
    show(made, as_json, _print)


@instance.command()
@click.argument("service")
@click.argument("id_", metavar="ID")
@takes(*SETTINGS)
def delete(service: str, id_: str, settings: Settings) -> None:
    """Delete an instance; its address is never given to another."""
    client, environment = Target.of(settings)
    client.delete("environments", environment, "services", service, "instances", id_)


def _print(instance_: Any) -> None:
    table([instance_], COLUMNS)
