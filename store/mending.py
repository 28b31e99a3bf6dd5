"""How an environment that is damaged in the store is mended: one of three things, and each only because somebody asked.

    replace   by a new environment, in the network of the old one where that is known
    remove    as if it had been deleted
    adopt     the document as it is, which somebody has changed by hand, or whose line in the index is lost

What is replaced or removed is kept aside for some days. All functions raise `store.errors.Unavailable`, and
`RevisionConflict` if somebody else was first; none does anything to an environment that is not damaged.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from ipaddress import IPv6Network

import msgspec

from store.errors import Corrupt
from store.store import Store
from store.stored import Stored, find_damage
from zones.model import MAX_REVISION, Environment
from zones.names import EnvironmentId

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


async def adopt(store: Store, id_: EnvironmentId) -> Environment | None:
    """Makes the document of ``id_`` the newest revision as it is; None if it is not damaged.

    Raises `Corrupt` if it cannot be read, and `NetworkTaken` if its network belongs to another environment.
    """
    found = await _find_damaged(store, id_)
    if found is None:
        return None
    environment = msgspec.structs.replace(found.decode_document(), revision=await _next_revision(store, found))
    await store.environments.overwrite(found, environment, environment.revision)
    return environment


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
