"""What has to change so that an environment is as a document wants it: pure, and empty where it is so already."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from interlock.manifest.wanted import Part, Wanted

Sign = Literal["+", "~", "-"]


@dataclass(frozen=True, slots=True)
class Change:
    """One change of an environment."""

    sign: Sign
    """Whether something is created, changed or deleted."""
    what: str
    """What it is about, in words: ``service api``."""
    detail: str
    """What it will be, or what it was and will be; empty where that says nothing more."""
    edit: Mapping[str, Any] | None
    """The edit as a batch of the API has it; None for a change of the environment's own fields."""
    line: int
    """The line of the document that wants it; of a deletion that of the environment."""


def difference(wanted: Wanted, actual: Mapping[str, Any] | None) -> list[Change]:
    """The changes that make ``wanted`` of ``actual``, an environment as the API shows it; None if there is none.

    What is deleted comes first, so that nothing that goes is in the way of what comes.
    """
    now = actual or {"services": [], "records": [], "peers": [], "enabled": True}
    services = {one["name"]: one for one in now["services"]}
    return [
        *_own(wanted, actual),
        *_deletions(wanted, now, services),
        *_services(wanted, services),
        *_records(wanted, {(one["name"], one["type"]): one for one in now["records"]}),
        *_peers(wanted, {one["id"]: one for one in now["peers"]}),
    ]


def _own(wanted: Wanted, actual: Mapping[str, Any] | None) -> Iterator[Change]:
    what = f"environment {wanted.id}"
    if actual is None:
        yield Change("+", what, _shown(wanted.fields), None, wanted.line)
        return
    fields = {name: value for name, value in wanted.fields.items() if actual.get(name, False) != value}
    if fields:
        yield Change("~", what, _shown(fields), None, wanted.line)


def _deletions(wanted: Wanted, now: Mapping[str, Any], services: Mapping[str, Any]) -> Iterator[Change]:
    line = wanted.line
    for one in now["records"] if wanted.records is not None else ():
        if (one["name"], one["type"]) not in (wanted.records or {}):
            edit = {"op": "delete-record", "name": one["name"], "type": one["type"]}
            yield Change("-", f"record {one['name']} {one['type']}", " ".join(one["values"]), edit, line)
    for one in now["peers"] if wanted.peers is not None else ():
        if one["id"] not in (wanted.peers or {}):
            yield Change("-", f"peer {one['id']}", "", {"op": "delete-peer", "id": one["id"]}, line)
    for name, service in services.items():
        if wanted.services is not None and name not in wanted.services:
            number = len(service["instances"])
            detail = f"with {number} instance{'s' * (number != 1)}" if number else ""
            yield Change("-", f"service {name}", detail, {"op": "delete-service", "name": name}, line)
            continue
        for one in service["instances"] if name in wanted.instances else ():
            if one["id"] not in wanted.instances[name] and one["host"] is None:
                edit = {"op": "delete-instance", "service": name, "id": one["id"]}
                yield Change("-", f"instance {one['id']} of {name}", "", edit, line)


def _services(wanted: Wanted, services: Mapping[str, Any]) -> Iterator[Change]:
    for name, part in (wanted.services or {}).items():
        edit = {"op": "put-service", "name": name, **part.fields}
        yield from _put(f"service {name}", part, services.get(name), edit)
        present = {one["id"]: one for one in services.get(name, {"instances": []})["instances"]}
        for id_, instance in wanted.instances.get(name, {}).items():
            if present.get(id_, {}).get("host") is None:
                edit = {"op": "put-instance", "service": name, "id": id_, **instance.fields}
                yield from _put(f"instance {id_} of {name}", instance, present.get(id_), edit)


def _records(wanted: Wanted, present: Mapping[tuple[str, str], Any]) -> Iterator[Change]:
    for (name, rtype), part in (wanted.records or {}).items():
        edit = {"op": "put-record", "name": name, "type": rtype, **part.fields}
        yield from _put(f"record {name} {rtype}", part, present.get((name, rtype)), edit)


def _peers(wanted: Wanted, present: Mapping[str, Any]) -> Iterator[Change]:
    for id_, part in (wanted.peers or {}).items():
        yield from _put(f"peer {id_}", part, present.get(id_), {"op": "put-peer", "id": id_, **part.fields})


def _put(what: str, part: Part, present: Mapping[str, Any] | None, edit: Mapping[str, Any]) -> Iterator[Change]:
    if present is None:
        yield Change("+", what, _shown(part.fields), edit, part.line)
        return
    changed = {name: value for name, value in part.fields.items() if _key(present[name]) != _key(value)}
    if changed:
        before = _shown({name: present[name] for name in changed})
        yield Change("~", what, f"{before} → {_shown(changed)}", edit, part.line)


def _key(value: Any) -> Any:
    """``value`` as it is compared: the order of values and of ports means nothing."""
    return sorted(map(str, value)) if isinstance(value, list) else value


def _shown(fields: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {_value(value)}" for name, value in fields.items() if value not in (None, []))


def _value(value: Any) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case {"name": name, "number": number, "protocol": protocol}:
            return f"{name}:{number}/{protocol}"
        case list():
            return " ".join(map(_value, value)) or "none"
        case None:
            return "none"
    return str(value)
