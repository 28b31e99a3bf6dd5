"""The target of a client command: an admin API and one of its environments."""

from __future__ import annotations

from typing import NamedTuple

from interlock.client import Client
from interlock.errors import BadSetting
from interlock.settings.table import Settings
from zones.names import EnvironmentId

SETTINGS = ("environment", "api", "token", "state_dir")


class Target(NamedTuple):
    """An environment, and a client of the admin API that has it."""

    client: Client
    """The client of the admin API."""
    environment: EnvironmentId
    """The environment that the command is about."""

    @classmethod
    def of(cls, settings: Settings) -> Target:
        """The target that ``settings`` name. Raises `BadSetting`."""
        return cls(Client.of(settings), environment_of(settings))


def environment_of(settings: Settings, *, or_all: bool = False) -> EnvironmentId:
    """The environment that ``settings`` name. ``or_all`` says that the command has ``--all``. Raises `BadSetting`."""
    if settings.environment is None:
        others = ", or give --all for all of them" if or_all else ""
        raise BadSetting(f"which environment? give --environment or set INTERLOCK_ENVIRONMENT{others}")
    return settings.environment
