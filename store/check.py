"""Looks through all that the store holds, names what is damaged, and mends what can be mended without a decision.

    a key of a wrong type         is moved aside, so that the scripts make it anew
    a key that takes no more      the same
    an environment                its document is adopted as the newest revision, if it can be read
    anything else                 is named, with what mends it: somebody must decide what is to count

Watchers find the same, a part of it in each comparison; this is all of it, now.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import Any

from store import mending
from store.errors import Corrupt, NetworkTaken, RevisionConflict
from store.keys import Keys
from store.store import Store
from store.stored import find_damage
from support.clock import unix_milliseconds
from zones.names import EnvironmentId

AT_ONCE = 100  # environments read in one round trip
LAST_POSITION = b"18446744073709551615-18446744073709551615"  # after it a stream takes nothing
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
    found = [finding async for finding in _check_keys(store, repair=repair)]
    # What lies in such a key cannot be read until the key is moved aside.
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


async def _check_keys(store: Store, *, repair: bool) -> AsyncIterator[Finding]:
    keys = store.connection.keys
    for key, wanted in keys.types.items():
        async with store.connection.client() as redis:
            actual = (await redis.type(key)).decode()
            if actual == "none":
                continue
            problem = f"it is of the type {actual}, and must be a {wanted}"
            if actual == wanted:
                problem = await _problem_within(redis, keys, key)
            if not problem:
                continue
            outcome = "'--repair' moves it aside, and the next write makes it anew"
            if repair:
                aside = keys.aside(f"{key.removeprefix(keys.prefix)}:{unix_milliseconds()}")
                await redis.rename(key, aside)
                outcome = f"moved to {aside}"
        yield Finding(key, problem, outcome)


async def _problem_within(redis: Any, keys: Keys, key: str) -> str:
    """Why nothing can be added to ``key``, which has its type; empty if it can."""
    if key == keys.changes and (await redis.xinfo_stream(key))["last-generated-id"] == LAST_POSITION:
        return "it takes no more changes: somebody has used up the positions that a stream has"
    if key == keys.hosts_revision and not re.fullmatch(rb"[0-9]{1,15}", await redis.get(key)):  # as change_host.lua
        return "it holds no number that could be counted up"
    return ""


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
