"""Folds differences into the documents that they belong to: the way back to a release that knows no differences."""

from __future__ import annotations

from dataclasses import dataclass

from msgspec.structs import replace

from store.errors import Corrupt, RevisionConflict
from store.store import Store
from zones.names import EnvironmentId

ATTEMPTS = 100  # at one environment, which others may write some ten times a second


@dataclass(frozen=True, slots=True)
class Folded:
    """An environment that was written whole."""

    environment: EnvironmentId
    """Its id."""
    revision: int
    """The revision by which it was."""


async def fold(store: Store) -> list[Folded]:
    """Writes each environment whole that has differences, as a revision that changes nothing else.

    What is damaged is left as it is. Raises `store.errors.Unavailable`, and `RevisionConflict` if other writers were
    first each time at one of them, when the others have been written.
    """
    done, overtaken = list[Folded](), list[RevisionConflict]()
    for id_, entry in sorted((await store.environments.index()).items()):
        try:
            if entry.digest is not None and (folded := await _fold(store, id_)):
                done.append(folded)
        except RevisionConflict as error:
            overtaken.append(error)
    if overtaken:
        raise overtaken[0]
    return done


async def _fold(store: Store, id_: EnvironmentId) -> Folded | None:
    for attempt in range(1, ATTEMPTS + 1):
        try:
            revision, newest = await store.environments.newest(id_)
        except Corrupt:
            return None
        if newest is None or not newest.differences:
            return None
        try:
            await store.environments.commit(replace(newest.environment, revision=revision + 1), revision)
        except RevisionConflict:
            if attempt == ATTEMPTS:
                raise
        else:
            return Folded(id_, revision + 1)
    return None
