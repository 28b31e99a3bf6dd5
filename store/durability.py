"""What the server of the store may lose by its configuration: writes at a crash, or keys when memory is short."""

from __future__ import annotations

from store.connection import Connection
from store.errors import Unavailable

SETTINGS = ("appendonly", "save", "maxmemory", "maxmemory-policy")

NOTHING_ON_DISK = (
    "the store keeps nothing on disk, and a restart loses everything: set 'appendonly yes' in its configuration"
)
SNAPSHOTS_ONLY = (
    "the store keeps its data on disk only now and then, and a crash loses all commits since: set 'appendonly yes' in"
    " its configuration"
)
EVICTS = (
    "the store deletes keys of its own when its memory is full ({policy}): set 'maxmemory-policy noeviction' in its"
    " configuration"
)
UNKNOWN = (
    "the store does not let this process see whether it keeps its data: allow it CONFIG GET, or look there for"
    " 'appendonly yes' and 'maxmemory-policy noeviction'"
)


async def read_risks(connection: Connection) -> tuple[str, ...]:
    """What the server may lose, and what to do about it: a sentence each, without its final full stop.

    Raises `Unavailable` if the server does not answer.
    """
    async with connection.client() as redis:
        await redis.ping()
    try:
        async with connection.client() as redis:
            found = {name: (await redis.config_get(name))[name] for name in SETTINGS}
    except (Unavailable, KeyError):
        return await _read_info(connection)
    keeps_log = found["appendonly"] == "yes"
    return tuple([] if keeps_log else [SNAPSHOTS_ONLY if found["save"] else NOTHING_ON_DISK]) + _eviction(
        int(found["maxmemory"]), found["maxmemory-policy"]
    )


async def _read_info(connection: Connection) -> tuple[str, ...]:
    """The same by ``INFO``, which does not say whether there are snapshots."""
    try:
        async with connection.client() as redis:
            found = {**await redis.info("persistence"), **await redis.info("memory")}
            eviction = _eviction(int(found["maxmemory"]), str(found["maxmemory_policy"]))
            return (() if found["aof_enabled"] else (SNAPSHOTS_ONLY,)) + eviction
    except (Unavailable, KeyError):
        return (UNKNOWN,)


def _eviction(maxmemory: int, policy: str) -> tuple[str, ...]:
    return (EVICTS.format(policy=policy),) if maxmemory and policy != "noeviction" else ()
