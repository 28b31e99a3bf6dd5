"""How an environment that is damaged in the store is mended: one of three things, and each only because somebody asked.

    replace   by a new environment, in the network of the old one where that is known
    remove    as if it had been deleted
    adopt     the document as it is, which somebody has changed by hand, or whose line in the index is lost; or what is
              left of it, where differences are gone

What is replaced or removed is kept aside for some days. All functions raise `store.errors.Unavailable`, and
`RevisionConflict` if somebody else was first; none does anything to an environment that is not damaged.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from ipaddress import IPv6Network

import msgspec

from store.environments import WHOLE_UP_TO
from store.errors import Corrupt, RevisionConflict
from store.keys import DIFFERENCES
from store.store import Store
from store.stored import Stored, find_damage
from zones.addresses import LAST_SUBNET
from zones.errors import Invalid
from zones.model import MAX_REVISION, Environment
from zones.names import EnvironmentId, check_environment_id

SCAN = 1_000  # keys looked at in one step of a scan, which holds up the server's other clients for that long

NUMBERS_LEFT_OUT = 1 << 20  # of instances and of peers, where revisions are gone that may have given the next ones
SUBNETS_LEFT_OUT = 1 << 8  # of services, which come seldom, and of which a network holds 65,535

NewEnvironment = Callable[[int, IPv6Network | None], Environment]
"""Makes an environment of a revision, in a network, or in one of its choice where none is given."""


async def replace(store: Store, id_: EnvironmentId, make: NewEnvironment) -> Environment | None:
    """Puts what ``make`` returns in place of the environment ``id_``; None if that is not damaged.

    Raises `NetworkTaken` if the network that ``make`` chose belongs to another environment.
    """
    found = await _find_damaged(store, id_)
    if found is None:
        return None
    environment = make(await _next_revision(store, found), await _network_of(store, found))
    await store.environments.overwrite(found, environment, environment.revision)
    return environment


async def remove(store: Store, id_: EnvironmentId) -> int | None:
    """Deletes the environment ``id_``; returns the revision of the deletion, or None if it is not damaged."""
    found = await _find_damaged(store, id_)
    if found is None:
        return None
    revision = await _next_revision(store, found)
    await store.environments.overwrite(found, None, revision)
    return revision


async def finish_deletions(store: Store, seconds: float) -> list[EnvironmentId]:
    """Removes the environments that have a document and no line in the index, which somebody has just confirmed.

    Else `adopt` would bring them back later. It ends after so many ``seconds``; what is left is found again. Returns
    which were removed.
    """
    indexed, clock = await store.environments.index(), asyncio.get_running_loop().time
    until, removed = clock() + seconds, []
    for id_ in filter(None, map(_id_of, await document_names(store))):
        if id_ not in indexed and clock() < until:
            with suppress(RevisionConflict):  # somebody makes it anew just now
                if await remove(store, id_):
                    removed.append(id_)
    return removed


async def document_names(store: Store) -> list[bytes]:
    """What follows the prefix in the keys of all documents, whether the index has a line of them or not."""
    prefix = store.connection.keys.environment("")
    pattern = "".join(f"\\{character}" if character in "*?[]\\" else character for character in prefix)
    async with store.connection.client() as redis:
        found = [key async for key in redis.scan_iter(match=f"{pattern}*", count=SCAN)]
    names = (key.removeprefix(prefix.encode()) for key in found)
    return [name for name in names if not name.endswith(DIFFERENCES.encode())]


def _id_of(name: bytes) -> EnvironmentId | None:
    try:
        return check_environment_id(name.decode())
    except (UnicodeDecodeError, Invalid):
        return None


async def adopt(store: Store, id_: EnvironmentId, *, go_back: bool = False) -> Environment | None:
    """Makes the document of ``id_`` the newest revision as it is; None if it is not damaged.

    A large one, of which acknowledged revisions are gone with their differences, only with ``go_back``: then it is the
    last revision that can be read. Raises `Corrupt` if there is none, and `NetworkTaken` if its network belongs to
    another environment.
    """
    found = await _find_damaged(store, id_)
    if found is None:
        return None
    last = found.entry.revision if found.entry else 0
    environment = found.decode_readable() if go_back else found.decode_document()
    if environment.revision < last and go_back:
        environment = _with_new_numbers(environment)
    elif environment.revision < last and found.size >= WHOLE_UP_TO:
        raise Corrupt(
            f"environment {id_!r} is damaged in the store: of its revisions {environment.revision + 1} to {last} there"
            " is nothing left"
        )
    environment = msgspec.structs.replace(environment, revision=await _next_revision(store, found))
    await store.environments.overwrite(found, environment, environment.revision)
    return environment


def _with_new_numbers(environment: Environment) -> Environment:
    """``environment``, which gives none of the addresses again that revisions may have given that are gone."""
    services = {
        name: msgspec.structs.replace(service, last_number=service.last_number + NUMBERS_LEFT_OUT)
        for name, service in environment.services.items()
    }
    return msgspec.structs.replace(
        environment,
        services=services,
        last_subnet=min(environment.last_subnet + SUBNETS_LEFT_OUT, LAST_SUBNET),
        last_peer=environment.last_peer and environment.last_peer + NUMBERS_LEFT_OUT,
    )


async def _find_damaged(store: Store, id_: EnvironmentId) -> Stored | None:
    found = (await store.environments.stored([id_]))[id_]
    return found if find_damage(found) else None


async def _next_revision(store: Store, found: Stored) -> int:
    """A revision that ``found`` never had, as far as anybody can tell."""
    known = found.entry.revision if found.entry else 0
    with suppress(Corrupt):
        known = max(known, found.decode_document().revision)
    if 0 < known < MAX_REVISION:
        return known + 1
    # Nobody knows any more. One commit a millisecond since 1970 would not have brought it there.
    return await store.clock.milliseconds()


async def _network_of(store: Store, found: Stored) -> IPv6Network | None:
    """The network that is known to be ``found``'s: the one in its document, or the only one that it ever had."""
    owned = await store.environments.networks_of(found.id)
    try:
        written = msgspec.json.decode(found.written or b"", type=_InNetwork).network
    except (msgspec.DecodeError, UnicodeDecodeError):
        written = ""
    network = written if written in owned else owned[0] if len(owned) == 1 else ""
    return IPv6Network(network) if network else None


class _InNetwork(msgspec.Struct):
    """As much of a document as is needed to see where the environment is."""

    network: str
