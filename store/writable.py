"""Whether the server would take a write, as far as it says so without being given one.

A server that answers may still refuse all writes: its memory is full, or it has too few replicas. Then whoever sends
requests to a control plane should learn of it by its readiness, and not by a 503 to each of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from store.connection import Connection
from store.errors import Refused
from store.replication import followers_of

FULL = (
    "the store takes no writes: its memory is full, {used} of {most} octets (maxmemory); give it more, or delete what"
    " is not used"
)
TOO_FEW = (
    "the store takes no writes: it has none of the replicas without which it refuses them (min-replicas-to-write);"
    " bring one back"
)
UNCONFIRMED = (
    "no write is confirmed: {wanted} replicas are to confirm each (--redis-wait), and the store has {actual}; bring one"
    " back"
)


async def find_obstacle(connection: Connection) -> str:
    """Why no write succeeds, and what to do about it; empty if nothing is known to be in the way.

    Raises `store.errors.Unavailable` if the server does not answer.
    """
    try:
        async with connection.client() as redis:
            memory, replication = await redis.info("memory"), await redis.info("replication")
    except Refused:
        return ""  # this user may not look
    return _full(memory) or _lacks_replicas(replication, connection.confirmations)


def _full(memory: Mapping[str, Any]) -> str:
    most, used = int(memory["maxmemory"]), int(memory["used_memory"]) - int(memory.get("mem_not_counted_for_evict", 0))
    # With a policy for volatile keys it deletes those that end by themselves. None of our data does.
    evicts = str(memory["maxmemory_policy"]).startswith("allkeys")
    return FULL.format(used=used, most=most) if most and used > most and not evicts else ""


def _lacks_replicas(replication: Mapping[str, Any], wanted: int) -> str:
    if replication.get("min_slaves_good_slaves") == 0:
        return TOO_FEW
    actual = len(followers_of(replication))
    return UNCONFIRMED.format(wanted=wanted, actual=actual) if actual < wanted else ""
