"""Names that the shell completes by asking the admin API: environments, services, instances, hosts, …

Whoever presses Tab waits, so the API has a short deadline, and every failure is an empty list.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import click

from interlock.client import Client
from interlock.errors import InterlockError
from interlock.settings.sources import read_settings
from interlock.settings.table import Settings

DEADLINE = 0.7  # seconds; somebody has pressed Tab, and waits
_FLAGS = ("api", "token", "state_dir", "environment")

Completion = Callable[[click.Context, click.Parameter, str], list[str]]
Find = Callable[[Client, Settings, click.Context], Iterable[str]]


def _completes(find: Find) -> Completion:
    def complete(context: click.Context, _parameter: click.Parameter, begun: str) -> list[str]:
        try:
            given = {name: value for name in _FLAGS if (value := context.params.get(name)) not in (None, ())}
            settings = read_settings(given, os.environ, config=context.params.get("config"))
            client = replace(Client.of(settings), timeout=DEADLINE)
            return sorted(name for name in find(client, settings, context) if name.startswith(begun))
        except (InterlockError, LookupError, TypeError):
            return []

    return complete


def _part(kind: str, key: str = "id") -> Completion:
    """Completes the parts of that kind of the environment that the command is about."""
    return _completes(lambda client, settings, _: _ids(client, kind, "environments", settings.environment, key=key))


def _ids(client: Client, kind: str, *place: Any, key: str = "id") -> list[str]:
    if None in place:
        return []
    return [one[key] for one in client.get(*place, kind, query={"limit": "1000"})[kind]]


def _instances(client: Client, settings: Settings, context: click.Context) -> list[str]:
    return _ids(client, "instances", "environments", settings.environment, "services", context.params["service"])


def _tokens(client: Client, settings: Settings, context: click.Context) -> list[str]:
    place = ("tokens",) if context.params.get("admin") else ("environments", settings.environment, "tokens")
    return [] if None in place else [one["id"] for one in client.get(*place)["tokens"]]


environments = _completes(lambda client, _settings, _context: _ids(client, "environments"))
deleted_environments = _completes(
    lambda client, _settings, _context: {one["id"] for one in client.get("deleted")["environments"]}
)
hosts = _completes(lambda client, _settings, _context: _ids(client, "hosts"))
services = _part("services", key="name")
records = _part("records", key="name")
peers = _part("peers")
instances = _completes(_instances)
tokens = _completes(_tokens)
