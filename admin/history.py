"""What a commit has changed, in a form that people can read and that can be undone. Pure.

    changes_of(edits, before, after)  ->  what was, and what is, of each thing that the edits name
    undo_of(change, environment)      ->  the edits that make it again what it was

What was deleted with an address cannot be undone: the address is never given again, and another one would be another
thing under the old name.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

import msgspec
from msgspec import Struct

from admin.errors import PreconditionFailed
from zones import edits
from zones.edits import Edit
from zones.errors import Conflict
from zones.keys import PublicKey
from zones.model import Environment, Port, RecordSet, State
from zones.records import RecordType

MOST_CHANGES = 20  # of one commit that are kept; a larger one is a deploy or an import, which nobody reads

Value = dict[str, Any] | str | bool | None


class Change(Struct, frozen=True):
    """What one commit has changed of one thing."""

    kind: str
    """What it is: ``record``, ``service``, ``rename``, ``instance``, ``peer`` or ``environment``."""
    key: tuple[str, ...]
    """Which one, as the name and the type of a record."""
    before: Value
    """What it was. None: it did not exist."""
    after: Value
    """What it is. None: it was deleted."""

    @property
    def can_be_undone(self) -> bool:
        """Whether there is an edit that makes it again what it was."""
        return (self.kind == "record" or self.after is not None) and self != CREATED


CREATED = Change("environment", ("created",), None, True)
"""The environment itself was created."""


def changes_of(wanted: Sequence[Edit], before: Environment, after: Environment) -> Sequence[Change]:
    """What ``wanted``, which made ``after`` of ``before``, has changed."""
    found: dict[tuple[str, ...], Change] = {}
    for edit in wanted[: MOST_CHANGES * 2]:
        for kind, old, new in _touched(edit):
            if kind == "rename":
                change = Change(kind, (*old, *new), *old, *new)
            else:
                change = Change(kind, new, _value(before, kind, old), _value(after, kind, new))
            if change.before != change.after:
                found[kind, *new] = change
    return list(found.values())


def written_changes(changes: Sequence[Change]) -> tuple[dict[str, Any], ...] | None:
    """``changes``, as the store keeps them; None where they are too many."""
    return None if len(changes) > MOST_CHANGES else tuple(msgspec.to_builtins(change) for change in changes)


def read_changes(written: Sequence[dict[str, Any]] | None) -> Sequence[Change] | None:
    """The changes that were ``written``; None where they were not kept, or cannot be read."""
    try:
        return None if written is None else msgspec.convert(written, list[Change])
    except msgspec.ValidationError:
        return None


def undo_of(change: Change, environment: Environment) -> Edit:
    """The edit that makes it again what it was before ``change``.

    Raises `PreconditionFailed` if it is not what ``change`` has made of it any more, and `Conflict` if it cannot be.
    """
    if not change.can_be_undone:
        raise Conflict(
            f"{' '.join(change.key)} cannot be made again what it was: its addresses are never given again; create it"
            " anew",
            field="revision",
        )
    key = change.key[-1:] if change.kind == "rename" else change.key
    present: Value = key[0] if change.kind == "rename" and key[0] in environment.services else None
    if change.kind != "rename":
        present = _value(environment, change.kind, key)
    if present != change.after:
        raise PreconditionFailed(f"{' '.join(change.key)} has been changed since: undo that first, or edit it")
    return _edit_to(change, environment)


def _touched(edit: Edit) -> Iterator[tuple[str, tuple[str, ...], tuple[str, ...]]]:
    """What ``edit`` is about: the kind, the key before it, and the key after it."""
    match edit:
        case edits.PutRecord() | edits.DeleteRecord():
            yield "record", (edit.name, edit.type), (edit.name, edit.type)
        case edits.PutService(name=old, rename=str(new)) if new != old:
            yield "rename", (old,), (new,)
            yield "service", (old,), (new,)
        case edits.PutService() | edits.DeleteService():
            yield "service", (edit.name,), (edit.name,)
        case edits.PutInstance() | edits.DeleteInstance():
            yield "instance", (edit.service, edit.id), (edit.service, edit.id)
        case edits.PutPeer() | edits.DeletePeer():
            yield "peer", (edit.id,), (edit.id,)
        case edits.SetEnabled():
            yield "environment", ("enabled",), ("enabled",)
        case edits.SetIsolated():
            yield "environment", ("isolated",), ("isolated",)


def _value(environment: Environment, kind: str, key: tuple[str, ...]) -> Value:
    """What ``environment`` has under ``key``."""
    match kind, key:
        case "record", (name, rtype):
            records = environment.records.get(name, {}).get(cast("RecordType", rtype))
            return {"ttl": records.ttl, "values": list(records.values)} if records else None
        case "service", (name,):
            service = environment.services.get(name)
            return {"ports": [msgspec.to_builtins(port) for port in service.ports]} if service else None
        case "instance", (name, id_):
            service = environment.services.get(name)
            instance = service.instances.get(id_) if service else None
            if instance is None:
                return None
            return {"state": instance.state.value, "host": instance.host, "region": instance.region}
        case "peer", (id_,):
            peer = environment.peers.get(id_)
            return {"public_key": peer.public_key, "gateway": peer.gateway} if peer else None
        case "environment", ("enabled",):
            return environment.enabled
        case "environment", ("isolated",):
            return environment.isolated
    return None


def _edit_to(change: Change, environment: Environment) -> Edit:
    """The edit that makes what ``change`` is about again what it was."""
    if change.before is None:
        return _deletion(change, environment)
    was: Any = change.before
    match change.kind, change.key:
        case "record", (name, rtype):
            return edits.PutRecord(name, cast("RecordType", rtype), RecordSet(was["ttl"], tuple(was["values"])))
        case "service", (name,):
            return edits.PutService(name, tuple(msgspec.convert(port, Port) for port in was["ports"]))
        case "rename", (old, new):
            return edits.PutService(new, rename=old)
        case "instance", (name, id_):
            return edits.PutInstance(name, id_, State(was["state"]), was["host"], was["region"])
        case "peer", (id_,):
            return edits.PutPeer(id_, PublicKey(was["public_key"]), was["gateway"])
        case "environment", ("enabled",):
            return edits.SetEnabled(bool(was))
    return edits.SetIsolated(bool(was))


def _deletion(change: Change, environment: Environment) -> Edit:
    match change.kind, change.key:
        case "record", (name, rtype):
            return edits.DeleteRecord(name, cast("RecordType", rtype))
        case "instance", (name, id_):
            return edits.DeleteInstance(name, id_)
        case "peer", (id_,):
            return edits.DeletePeer(id_)
    (name,) = change.key
    if environment.services[name].instances:
        raise Conflict(f"the service {name!r} has instances by now: delete those first", field="revision")
    return edits.DeleteService(name)
