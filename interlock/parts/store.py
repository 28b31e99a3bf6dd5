"""The store of a process, as its settings describe it."""

from __future__ import annotations

from interlock.settings.table import Settings
from store.options import StoreOptions
from store.store import Store


def open_store(settings: Settings, url: str) -> Store:
    """The store at ``url``. It connects with its first command."""
    options = StoreOptions(settings.redis_ca, settings.redis_replicas, settings.redis_wait)
    return Store(url, settings.redis_prefix, options)
