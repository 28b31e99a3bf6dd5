"""Rollbacks: what tells that the store has gone back, to a state before changes that it had told of.

A failover to a replica that lacked the newest commits does so, and a backup that is restored. What follows from it is
the guard's to decide; here it is only recognised, so that nobody loses an acknowledged commit without a word.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from store.changes import BEGINNING, Position
from store.index import IndexEntry
from watcher.guard import GuardPolicy, Index, environments_to_hold
from watcher.snapshot import Snapshot
from zones.names import EnvironmentId

NAMED = 5  # environments that a report names

log = logging.getLogger(__name__)


def has_lost(policy: GuardPolicy, snapshot: Snapshot, position: Position, index: Index) -> bool:
    """Whether a store has not all that is in ``snapshot``, by a look that leaves the judgement to the guard.

    ``position`` and ``index`` are the store's.
    """
    known = snapshot.revisions
    missing = {id_ for id_ in known if id_ not in index}
    older = sum((entry := index.get(id_)) is not None and 0 < entry.revision < known[id_] for id_ in known)
    deleted = {id_ for id_ in known if (entry := index.get(id_)) is not None and entry.digest is None}
    is_other = position.epoch != snapshot.position.epoch
    held = environments_to_hold(policy, len(known), deleted, missing)
    if is_other or older or held:
        shown = {"is_other_data_set": is_other, "missing": len(missing), "older": older, "deleted": len(deleted)}
        log.warning("store_lacks_what_was_served", extra={**shown, "of": len(known)})
    return bool(is_other or older or held)


def describe_rollback(
    before: Position,
    after: Position,
    common: str,
    served: Mapping[EnvironmentId, tuple[int, str]],
    index: Mapping[EnvironmentId, IndexEntry],
) -> str:
    """How the store went back, in a few words; empty if it did not.

    ``before`` is what was applied of its history, and ``after`` where it is now. ``common`` is the newest change that
    it holds of those until ``before``. ``served`` has the revision and the digest of each environment.
    """
    if before.epoch is None:
        return ""
    if after.epoch != before.epoch:
        if after.epoch is None:
            return "its epoch is gone" if index else "it is empty"
        return "it holds another data set"
    # A stream that was trimmed so far lacks the changes before it as well, and proves nothing.
    is_cut = common not in (before.change, BEGINNING)
    older = sorted(id_ for id_, one in served.items() if _is_gone(index.get(id_), *one, is_cut=is_cut))
    if older:
        names = ", ".join(older[:NAMED]) + (f" and {len(older) - NAMED} more" if len(older) > NAMED else "")
        return f"revisions that were served are gone: of {names}"
    return f"changes that were applied are gone: those after {common}" if is_cut else ""


def _is_gone(entry: IndexEntry | None, revision: int, digest: str, *, is_cut: bool) -> bool:
    if entry is None or entry.digest is None:
        return False  # the environment is gone altogether, which the guard weighs
    if not entry.revision:
        return False  # its line is spoilt, and says nothing of the document
    # Another document at the same revision may be the work of somebody who has changed the index by hand.
    return entry.revision < revision or (is_cut and entry.revision == revision and entry.digest != digest)
