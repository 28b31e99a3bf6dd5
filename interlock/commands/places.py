"""Where a list looks: in one environment, or in all of them that the token may see."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from interlock.client import Client
from interlock.commands.target import environment_of
from interlock.errors import ApiRefused
from interlock.settings.table import Settings

MISSING = "missing"  # the kind of problem that an environment is which was deleted while a list was made

all_option = click.option("--all", "-A", "everywhere", is_flag=True, help="In all environments.")


def lists(settings: Settings, kind: str, *, everywhere: bool) -> Any:
    """All parts of that ``kind`` (``services``, ``records``, ``peers``).

    Of one environment: as the API lists them. ``everywhere``: each part has the field ``environment`` too.
    """
    client = Client.of(settings)
    if not everywhere:
        return client.get_all("environments", environment_of(settings, or_all=True), kind, of=kind)
    return {kind: [{"environment": one["id"], **part} for one in whole_environments(client) for part in one[kind]]}


def columns(names: tuple[str, ...], *, everywhere: bool) -> tuple[str, ...]:
    """The columns of a list: with the environment, where it looks in all of them."""
    return ("environment", *names) if everywhere else names


def whole_environments(client: Client) -> Iterator[Any]:
    """All environments with all that is in them; one that is deleted meanwhile is left out."""
    for summary in client.get_all("environments", of="environments")["environments"]:
        try:
            yield client.get("environments", summary["id"])
        except ApiRefused as refusal:
            if refusal.kind != MISSING:
                raise
