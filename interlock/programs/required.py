"""Settings that a program cannot run without."""

from __future__ import annotations

from interlock.errors import BadSetting
from interlock.process.embedded import SOCKET
from interlock.settings.table import Settings


def require_store(settings: Settings, command: str, instead: str = "") -> str:
    """The URL of the store, without which ``interlock command`` cannot run. Raises `BadSetting`.

    ``instead`` ends the error message: it says what else the operator might give.
    """
    if settings.redis is None:
        raise BadSetting(f"'interlock {command}' needs a store: give --redis URL or set INTERLOCK_REDIS_URL{instead}")
    return settings.redis


def require_any_store(settings: Settings, command: str) -> str:
    """The URL of the store for ``command``: the one that is named, or that of the ``up`` that runs here.

    Raises `BadSetting`.
    """
    embedded = settings.state_dir / SOCKET
    if settings.redis is None and embedded.exists():
        return f"unix://{embedded}"
    return require_store(settings, command, ", or --state-dir of the 'interlock up' that runs here")
