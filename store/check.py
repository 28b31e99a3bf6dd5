"""Looks through all that the store holds, names what is damaged, and mends what can be mended without a decision.

    a key of a wrong type         is moved aside, so that the scripts make it anew
    an environment                its document is adopted as the newest revision, if it can be read
    anything else                 is named, with what mends it: somebody must decide what is to count

Watchers find the same, a part of it in each comparison; this is all of it, now.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice

from store import mending
from store.errors import Corrupt, NetworkTaken, RevisionConflict
from store.store import Store
from store.stored import find_damage
from support.clock import unix_milliseconds
from zones.names import EnvironmentId

AT_ONCE = 100  # environments read in one round trip
SCAN = 1_000  # keys looked at in one step of a scan, which holds up the server's other clients for that long
REPLACE_OR_DELETE = "replace it with PUT …?replace=damaged, or delete it"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong in the store."""

    what: str
    """The key, or the environment or host."""
    problem: str
    """What is wrong with it."""
    outcome: str
    """What was done about it, or what mends it."""


async def check(store: Store, *, repair: bool = False) -> list[Finding]:
    """All that is wrong in ``store``; with ``repair``, what can be mended is. Raises `store.errors.Unavailable`."""
    found = [finding async for finding in _check_types(store, repair=repair)]
    # What lies in a key of a wrong type cannot be read until the key is moved aside.
    keys, unreadable = store.connection.keys, set() if repair else {finding.what for finding in found}
    if keys.environments not in unreadable:
        found += [finding async for finding in _check_environments(store, repair=repair)]
    if not unreadable & {keys.hosts, keys.hosts_revision}:
        found += [
            Finding(
                f"host {id_}", reason, "its agent mends it when it registers, or 'interlock host forget' removes it"
            )
            for id_, reason in (await store.hosts.read()).unreadable.items()
        ]
    return found


async def _check_types(store: Store, *, repair: bool) -> AsyncIterator[Finding]:
    keys = store.connection.keys
    for key, wanted in keys.types.items():
        async with store.connection.client() as redis:
            actual = (await redis.type(key)).decode()
            if actual in (wanted, "none"):
                continue
            outcome = "'--repair' moves it aside, and the next write makes it anew"
            if repair:
                aside = keys.aside(f"{key.removeprefix(keys.prefix)}:{unix_milliseconds()}")
                await redis.rename(key, aside)
                outcome = f"moved to {aside}"
        yield Finding(key, f"it is of the type {actual}, and must be a {wanted}", outcome)


async def _check_environments(store: Store, *, repair: bool) -> AsyncIterator[Finding]:
    ids = iter(sorted({*await store.environments.index(), *await _documents(store)}))
    while some := list(islice(ids, AT_ONCE)):
        for id_, stored in (await store.environments.stored(some)).items():
            if damage := find_damage(stored):
                yield Finding(f"environment {id_}", damage, await _mend(store, id_, repair=repair))


async def _mend(store: Store, id_: EnvironmentId, *, repair: bool) -> str:
    if not repair:
        return f"'--repair' makes its document the newest revision, if it can be read; else {REPLACE_OR_DELETE}"
    with suppress(Corrupt, NetworkTaken, RevisionConflict):
        if environment := await mending.adopt(store, id_):
            return f"its document is now revision {environment.revision}"
        return "somebody else has mended it"
    return f"its document cannot be made to count: {REPLACE_OR_DELETE}"


async def _documents(store: Store) -> set[EnvironmentId]:
    """The environments of which there is a document, whether the index has them or not."""
    prefix = store.connection.keys.environment("")
    async with store.connection.client() as redis:
        found = [key async for key in redis.scan_iter(match=f"{_escaped(prefix)}*", count=SCAN)]
    return {EnvironmentId(key.decode(errors="replace").removeprefix(prefix)) for key in found}


def _escaped(text: str) -> str:
    """``text`` with what SCAN would take for a pattern taken literally."""
    return "".join(f"\\{character}" if character in "*?[]\\" else character for character in text)
