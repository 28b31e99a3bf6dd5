"""Looks through all that the store holds, names what is damaged, and mends what can be mended without a decision.

    a key of a wrong type         is moved aside, so that the scripts make it anew
    a key that takes no more      the same
    an environment                its document is adopted as the newest revision, if it can be read, and no revision is
                                  known to be gone
    a network                     is given to the environment that is in it, unless two are
    what has no environment's id  is moved aside
    a quota, a token              the same, where it cannot be read
    anything else                 is named, with what mends it: somebody must decide what is to count

Watchers find the same, a part of it in each comparison; this is all of it, now.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass
from itertools import islice
from typing import Any

from store import mending
from store.errors import Corrupt, NetworkTaken, RevisionConflict
from store.keys import Keys
from store.mending import document_names
from store.networks import WrongOwner, find_wrong_owners
from store.quotas import decode_limits
from store.store import Store
from store.stored import Stored, find_damage
from store.tokens import decode_token
from support.clock import unix_milliseconds
from support.text import shorten
from zones.errors import Invalid
from zones.model import Environment
from zones.names import EnvironmentId, check_environment_id

AT_ONCE = 100  # environments read in one round trip
LAST_POSITION = b"18446744073709551615-18446744073709551615"  # after it a stream takes nothing
ENVIRONMENT = "environment "  # before the id of an environment, in what a finding is about
MOVES_ASIDE = "'--repair' moves it aside"
ELSEWHERE = "somebody else has mended it"
GO_BACK = "'--repair --go-back' takes the last revision that can be read; or "
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


async def check(store: Store, *, repair: bool = False, go_back: bool = False) -> list[Finding]:
    """All that is wrong in ``store``; with ``repair``, what can be mended is.

    With ``go_back`` also where that loses revisions that were acknowledged. Raises `store.errors.Unavailable`.
    """
    found = [finding async for finding in _check_keys(store, repair=repair)]
    # What lies in such a key cannot be read until the key is moved aside.
    keys, unreadable = store.connection.keys, set() if repair else {finding.what for finding in found}
    if keys.environments not in unreadable:
        found += [finding async for finding in _check_ids(store, repair=repair)]
        homes: dict[EnvironmentId, str] = {}
        damaged = [finding async for finding in _check_environments(store, homes, repair=repair, go_back=go_back)]
        found += damaged
        if keys.networks not in unreadable:
            ids = {EnvironmentId(finding.what.removeprefix(ENVIRONMENT)) for finding in damaged}
            found += [
                Finding(f"network {wrong.network}", wrong.problem, await _give(store, wrong, repair=repair))
                async for wrong in find_wrong_owners(store, homes, ids - homes.keys())
            ]
    found += [finding async for finding in _check_lines(store, unreadable, repair=repair)]
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


async def _check_ids(store: Store, *, repair: bool) -> AsyncIterator[Finding]:
    """Lines of the index, and documents, whose names no environment can have: nothing else would ever mend them."""
    keys, now = store.connection.keys, unix_milliseconds()
    aside = keys.aside(f"environments:{now}")
    outcome = f"moved to {aside}" if repair else MOVES_ASIDE
    async with store.connection.client() as redis:
        for field in filter(_is_no_id, await redis.hkeys(keys.environments)):
            if repair:
                await _move_line(redis, keys.environments, field, aside)
            yield Finding(f"{keys.environments} {_shown(field)}", "no environment can have this id", outcome)
        prefix = keys.environment("").encode()
        bad = [prefix + name for name in await document_names(store) if _is_no_id(name)]
        for number, key in enumerate(bad):
            aside = keys.aside(f"environment:{now}:{number}")
            if repair:
                await redis.rename(key, aside)
                outcome = f"moved to {aside}"
            yield Finding(_shown(key), "no environment can have this id", outcome)


async def _check_lines(store: Store, unreadable: Collection[str], *, repair: bool) -> AsyncIterator[Finding]:
    """Quotas and tokens that cannot be read, and so count for nothing, where not all of their key is ``unreadable``."""
    keys, now = store.connection.keys, unix_milliseconds()
    async with store.connection.client() as redis:
        for key, decode, problem in (
            (keys.quotas, decode_limits, "it cannot be read, so the default quota counts"),
            (keys.tokens, decode_token, "it cannot be read, so it gives access to nothing"),
        ):
            lines = {} if key in unreadable else await redis.hgetall(key)
            aside = keys.aside(f"{key.removeprefix(keys.prefix)}:{now}")
            for field in sorted(field for field, value in lines.items() if decode(value) is None):
                if repair:
                    await _move_line(redis, key, field, aside)
                yield Finding(f"{key} {_shown(field)}", problem, f"moved to {aside}" if repair else MOVES_ASIDE)


async def _move_line(redis: Any, key: str, field: bytes, aside: str) -> None:
    await redis.hset(aside, field, await redis.hget(key, field))
    await redis.hdel(key, field)


async def _check_environments(
    store: Store, homes: dict[EnvironmentId, str], *, repair: bool, go_back: bool
) -> AsyncIterator[Finding]:
    """Puts the network of each environment that is well, or is mended, into ``homes``."""
    with_document = {EnvironmentId(name.decode()) for name in await document_names(store) if not _is_no_id(name)}
    indexed = {id_ for id_ in await store.environments.index() if not _is_no_id(id_.encode())}
    ids = iter(sorted(indexed | with_document))
    while some := list(islice(ids, AT_ONCE)):
        for id_, stored in (await store.environments.stored(some)).items():
            damage = find_damage(stored)
            environment = None if damage else stored.decode()
            if damage:
                outcome = (
                    f"'--repair' makes its document the newest revision, if it can be read; else {REPLACE_OR_DELETE}"
                )
                if repair:
                    environment, outcome = await _adopt(store, stored, go_back=go_back)
                yield Finding(f"{ENVIRONMENT}{id_}", damage.removeprefix(_said(id_)), outcome)
            if environment:
                homes[id_] = str(environment.network)


async def _adopt(store: Store, found: Stored, *, go_back: bool) -> tuple[Environment | None, str]:
    """Makes the document of the environment ``found`` count, and says what came of that."""
    try:
        environment = await mending.adopt(store, found.id, go_back=go_back)
    except RevisionConflict:
        return None, "somebody else writes it just now: check again"
    except (Corrupt, NetworkTaken) as error:
        why = f" ({str(error).removeprefix(_said(found.id))})" if found.size else ""
        remedy = (GO_BACK if found.beside and not go_back else "") + REPLACE_OR_DELETE
        return None, f"its document cannot be made to count{why}: {remedy}"
    return environment, f"its document is now revision {environment.revision}" if environment else ELSEWHERE


async def _give(store: Store, wrong: WrongOwner, *, repair: bool) -> str:
    """What is done about the network that has a wrong owner."""
    if wrong.is_contested:
        return f"delete, or mend, one of {wrong.environment!r} and {wrong.owner!r}"
    if not repair:
        return f"'--repair' gives it to {wrong.environment!r}"
    given = await store.environments.give_network(wrong.network, wrong.environment, wrong.owner)
    return f"it belongs to {wrong.environment!r} now" if given else ELSEWHERE


def _is_no_id(name: bytes) -> bool:
    try:
        check_environment_id(name.decode())
    except (UnicodeDecodeError, Invalid):
        return True
    return False


def _said(id_: EnvironmentId) -> str:
    """What messages about the damaged environment ``id_`` begin with; a finding names it already."""
    return f"environment {id_!r} is damaged in the store: "


def _shown(name: bytes) -> str:
    return shorten(name.decode(errors="backslashreplace"))
