"""The difference that a change would make, line by line, and the tag of what it was made from. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

from admin.errors import PreconditionFailed
from zones.document import digest
from zones.model import Environment, RecordSet, Service
from zones.records import RecordType

NOTHING = "-"  # the tag of what does not exist


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a difference."""

    sign: str
    """``-`` of what goes, ``+`` of what comes, empty of what stays."""
    text: str
    """The line."""


def difference(before: Sequence[str], after: Sequence[str]) -> Sequence[Line]:
    """What becomes of ``before`` in ``after``."""
    found = (line for line in difflib.ndiff(before, after) if not line.startswith("?"))
    return [Line(line[0].strip(), line[2:]) for line in found]


def tag_of(lines: Sequence[str]) -> str:
    """The tag of what ``lines`` describe: another text for everything else."""
    return digest("\n".join(lines).encode()) if lines else NOTHING


def check_unchanged(what: str, was: str, lines: Sequence[str]) -> None:
    """Raises `PreconditionFailed` unless ``was`` is the tag of ``lines``, which describe ``what`` as it is now."""
    if was != tag_of(lines):
        now = "; ".join(lines) or "nothing"
        raise PreconditionFailed(f"somebody has changed {what} meanwhile, to: {now}. Look at the difference again")


def record_lines(environment: Environment, name: str, rtype: RecordType) -> list[str]:
    """The records of one name and type in ``environment``, as a zone file has them."""
    records = environment.records.get(name, {}).get(rtype)
    return lines_of_records(name, rtype, records) if records else []


def lines_of_records(name: str, rtype: RecordType, records: RecordSet) -> list[str]:
    """``records`` as a zone file has them."""
    return [f"{name} {records.ttl} {rtype} {value}" for value in records.values]


def port_lines(service: Service | None) -> list[str]:
    """The ports of ``service``, as they are typed."""
    return [f"{port.name}:{port.number}/{port.protocol}" for port in service.ports] if service else []
