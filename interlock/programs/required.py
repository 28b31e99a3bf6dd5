"""Settings that a program cannot run without."""

from __future__ import annotations

from interlock.errors import BadSetting
from interlock.settings.table import Settings


def require_store(settings: Settings, command: str, instead: str = "") -> str:
    """The URL of the store, without which ``interlock command`` cannot run. Raises `BadSetting`.

    ``instead`` ends the error message: it says what else the operator might give.
    """
    if settings.redis is None:
        raise BadSetting(f"'interlock {command}' needs a store: give --redis URL or set INTERLOCK_REDIS_URL{instead}")
    return settings.redis
