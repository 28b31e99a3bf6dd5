"""The store of a process, as its settings describe it."""

from __future__ import annotations

from interlock.errors import BadSetting
from interlock.settings.table import Settings
from store.options import StoreOptions
from store.store import Store


def open_store(settings: Settings, url: str) -> Store:
    """The store at ``url``. It connects with its first command. Raises `BadSetting`."""
    options = StoreOptions(settings.redis_ca, settings.redis_replicas, settings.redis_wait, settings.redis_whole)
    try:
        return Store(url, settings.redis_prefix, options)
    except ValueError as error:
        raise BadSetting(str(error)) from None
