"""``interlock instance``: the instances of a service."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import click

from interlock.client import Client
from interlock.commands.deleting import CONFIRMED, confirm, delete_part, show_deleted, yes_option
from interlock.commands.groups import Noun
from interlock.commands.names import hosts, instances, services
from interlock.commands.options import takes
from interlock.commands.output import counted, json_option, show, table
from interlock.commands.places import all_option, columns, whole_environments
from interlock.commands.target import SETTINGS, Target, environment_of
from interlock.commands.waiting import LONGEST, committed, wait_option, wait_until_ready
from interlock.settings.table import Settings
from zones.model import State

MOST_EDITS = 1000  # of one batch, which the API takes
COLUMNS = ("id", "address", "state", "region", "host", "placement")

_states = click.Choice([state.value for state in State])
_service = click.argument("service", shell_complete=services)
_id = click.argument("id_", metavar="ID", shell_complete=instances)


@click.group(cls=Noun)
def instance() -> None:
    """Instances of a service: list, get, put, wait, delete."""


@instance.command("list")
@click.argument("service", required=False, shell_complete=services)
@all_option
@takes(*SETTINGS)
@json_option
def list_(service: str | None, everywhere: bool, settings: Settings, as_json: bool) -> None:
    """List the instances of SERVICE, or those of all services."""
    client = Client.of(settings)
    if service is not None and not everywhere:
        path = ("environments", environment_of(settings), "services", service, "instances")
        show(client.get_all(*path, of="instances"), as_json, lambda value: table(value["instances"], COLUMNS))
        return
    found = (
        whole_environments(client)
        if everywhere
        else [client.get("environments", environment_of(settings, or_all=True))]
    )
    wide = columns(("service", *COLUMNS), everywhere=everywhere)
    rows = {"instances": list(_rows(found, service))}
    show(rows, as_json, lambda value: table(value["instances"], wide))


@instance.command()
@_service
@_id
@takes(*SETTINGS)
@json_option
def get(service: str, id_: str, settings: Settings, as_json: bool) -> None:
    """Show one instance."""
    client, path = _place(settings, service, id_)
    show(client.get(*path), as_json, _print)


@instance.command()
@_service
@click.argument("id_", metavar="ID")
@click.option("--state", type=_states, help="Only ready instances are answered under the name of their service.")
@click.option("--host", help="The host that it runs on; empty for none: unmanaged.", shell_complete=hosts)
@click.option("--region", help="The region that it runs in; empty for none.")
@wait_option
@takes(*SETTINGS)
@json_option
def put(service: str, id_: str, wait: bool, settings: Settings, as_json: bool, **given: str | None) -> None:
    """Create an instance, or change the fields that are given; print its address."""
    client, path = _place(settings, service, id_)
    body = {field: value or None for field, value in given.items() if value is not None}
    made = committed(client, path[1], client.put(*path, body=body), wait=wait)
    show(made, as_json, _print)


@instance.command()
@_service
@_id
@click.option("--state", type=_states, default=State.READY.value, show_default=True, help="The state to wait for.")
@click.option(
    "--timeout", type=click.FloatRange(min=0), default=LONGEST, show_default=True, metavar="SECONDS", help="At most."
)
@takes(*SETTINGS)
@json_option
def wait(service: str, id_: str, state: str, timeout: float, settings: Settings, as_json: bool) -> None:
    """Wait until an instance is ready and all live hosts of its environment know that."""
    client, path = _place(settings, service, id_)
    show(wait_until_ready(client, path, state, timeout), as_json, _print)


@instance.command()
@click.argument("service", required=False, shell_complete=services)
@click.argument("id_", metavar="[ID]", required=False, shell_complete=instances)
@click.option("--host", help="Delete all instances on this host instead, in one environment.", shell_complete=hosts)
@click.option("--all", "-A", "everywhere", is_flag=True, help="With --host: in all environments.")
@yes_option
@wait_option
@takes(*SETTINGS)
@json_option
def delete(
    service: str | None,
    id_: str | None,
    host: str | None,
    everywhere: bool,
    yes: bool,
    wait: bool,
    settings: Settings,
    as_json: bool,
) -> None:
    """Delete an instance, or all on a host; an address is never given to another."""
    if host is not None and service is None:
        _delete_on(host, settings, everywhere=everywhere, yes=yes, wait=wait, as_json=as_json)
        return
    if service is None or id_ is None or host is not None or everywhere:
        raise click.UsageError("give SERVICE and ID, or --host HOST for all instances on a host")
    client, path = _place(settings, service, id_)
    what = f"the instance {id_} of {service} in {path[1]}"
    client.get(*path)  # so that nobody is asked about one that there is not
    delete_part(client, path, what, {}, yes=yes, wait=wait)
    show_deleted(what, {}, as_json, environment=path[1], service=service, instance=id_)


def _delete_on(host: str, settings: Settings, *, everywhere: bool, yes: bool, wait: bool, as_json: bool) -> None:
    """Deletes all instances on ``host``, in one commit for each environment."""
    client = Client.of(settings)
    found = (
        whole_environments(client)
        if everywhere
        else [client.get("environments", environment_of(settings, or_all=True))]
    )
    rows = [row for row in _rows(found, None) if row["host"] == host]
    what = f"{counted(len(rows), 'instance')} on the host {host}"
    agreed = not rows or confirm(f"Delete {what}?", yes=yes)
    for environment in dict.fromkeys(row["environment"] for row in rows):
        edits = [
            {"op": "delete-instance", "service": row["service"], "id": row["id"]}
            for row in rows
            if row["environment"] == environment
        ]
        for at in range(0, len(edits), MOST_EDITS):
            body = {"edits": edits[at : at + MOST_EDITS]}
            query = CONFIRMED if agreed else None
            made = client.post("environments", environment, "batch", body=body, query=query)
            committed(client, environment, made, wait=wait)
    show_deleted(what, {}, as_json, host=host, instances=[f"{row['id']}.{row['service']}" for row in rows])


def _place(settings: Settings, service: str, id_: str) -> tuple[Client, tuple[str, ...]]:
    client, environment = Target.of(settings)
    return client, ("environments", environment, "services", service, "instances", id_)


def _rows(environments: Iterable[Any], service: str | None) -> Iterable[dict[str, Any]]:
    for environment in environments:
        for one in environment["services"]:
            if service in (None, one["name"]):
                for found in one["instances"]:
                    yield {"environment": environment["id"], "service": one["name"], **found}


def _print(instance_: Any) -> None:
    table([instance_], COLUMNS)
