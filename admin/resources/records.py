"""Custom records of an environment: the values of one name and type; the name is relative to the zone."""

from __future__ import annotations

from typing import Annotated, ClassVar, cast

from aiohttp import web
from msgspec import Meta, Struct

from admin.commits import commit_edits, find_environment
from admin.http.fields import Revision, at_field
from admin.http.inputs import read_body, read_query
from admin.http.pages import PageQuery, cut_page
from admin.http.replies import show_made, show_nothing, show_part
from admin.resources.batch import BatchEdit
from zones import edits
from zones.errors import Invalid
from zones.model import MAX_RECORD_TTL, MAX_VALUES, Environment, RecordSet, check_record_name
from zones.placement import HostsAway
from zones.records import RECORD_TYPES, RecordType, RRType, parse_rdata

Ttl = Annotated[int, Meta(extra_json_schema={"minimum": 1, "maximum": MAX_RECORD_TTL}, description="seconds")]
Values = Annotated[
    tuple[str, ...],
    Meta(
        extra_json_schema={"minItems": 1, "maxItems": MAX_VALUES, "uniqueItems": True},
        description="in presentation form",
    ),
]


class RecordView(Struct, frozen=True):
    """The values that were set for one name and type; ``name`` is relative to the zone."""

    name: str
    """The name, relative to the zone."""
    type: RecordType
    """The type of the records."""
    ttl: int
    """The time to live, in seconds."""
    values: tuple[str, ...]
    """The values, in presentation form."""


class RecordReply(RecordView, frozen=True):
    """A record set, at a revision of its environment."""

    revision: Revision


class RecordPage(Struct, frozen=True):
    """Record sets by name and type."""

    records: tuple[RecordView, ...]
    """The record sets of this page."""
    next: str | None
    """The ``after`` of the next page. None: this is the last one."""
    revision: Revision


class RecordBody(Struct, frozen=True, forbid_unknown_fields=True):
    """The values that one name and type should have."""

    ttl: Ttl
    values: Values

    def __post_init__(self) -> None:
        self.record_set()

    def record_set(self) -> RecordSet:
        return RecordSet(self.ttl, self.values)

    def edit_of(self, name: str, rtype: RecordType) -> edits.PutRecord:
        """The edit that sets these values for ``name`` and ``rtype``.

        Raises `Invalid` where they cannot be set, whatever else the environment holds. The model checks them once more
        when it applies the edit; here the error can name the place in the request, as in ``edits[3].values[1]``.
        """
        with at_field("name"):
            check_record_name(name)
        for index, value in enumerate(self.values):
            with at_field(f"values[{index}]"):
                parse_rdata(RRType[rtype], value)
        return edits.PutRecord(name, rtype, self.record_set())


class PutRecord(RecordBody, BatchEdit, frozen=True, kw_only=True, tag="put-record"):
    """Set the values of ``name`` (relative to the zone) and ``type``."""

    view_type: ClassVar = RecordView

    name: str
    """The name, relative to the zone."""
    type: RecordType
    """The type of the records."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.edit()

    def edit(self) -> edits.PutRecord:
        return self.edit_of(self.name, self.type)

    def view(self, environment: Environment, _away: HostsAway) -> RecordView | None:
        records = environment.records.get(self.name, {}).get(self.type)
        return _view(self.name, self.type, records) if records else None


class DeleteRecord(BatchEdit, frozen=True, tag="delete-record"):
    """Delete the values of ``name`` and ``type``."""

    name: str
    """The name, relative to the zone."""
    type: RecordType
    """The type of the records."""

    def edit(self) -> edits.DeleteRecord:
        return edits.DeleteRecord(self.name, self.type)


async def put_record(request: web.Request) -> web.Response:
    """Set the values of one name and type."""
    name, rtype = _key_in(request)
    edit = (await read_body(request, RecordBody)).edit_of(name, rtype)
    committed = await commit_edits(request, [edit], lambda environment: _exists(environment, name, rtype))
    environment = committed.environment
    view = _view(name, rtype, environment.records[name][rtype])
    return show_part(request, RecordReply, view, environment, created=committed.created)


async def get_record(request: web.Request) -> web.Response:
    """Show the values of one name and type."""
    name, rtype = _key_in(request)
    environment = await find_environment(request)
    view = _view(name, rtype, edits.get_record(environment, name, rtype))
    return show_part(request, RecordReply, view, environment)


async def delete_record(request: web.Request) -> web.Response:
    """Delete the values of one name and type."""
    name, rtype = _key_in(request)
    edit = edits.DeleteRecord(name, rtype)
    committed = await commit_edits(request, [edit], lambda environment: _exists(environment, name, rtype))
    return show_nothing(request, committed.environment)


async def list_records(request: web.Request) -> web.Response:
    """List the custom records of an environment."""
    query, environment = read_query(request, PageQuery), await find_environment(request)

    def make() -> RecordPage:
        page, following = cut_page(view_records(environment), lambda record: f"{record.name}/{record.type}", query)
        return RecordPage(page, following, environment.revision)

    return await show_made(request, make, environment)


def view_records(environment: Environment) -> tuple[RecordView, ...]:
    """The custom records of ``environment`` by name and type."""
    return tuple(
        _view(name, rtype, records)
        for name, sets in sorted(environment.records.items())
        for rtype, records in sorted(sets.items())
    )


def check_type(text: str) -> RecordType:
    """``text``, if it is a type of custom records. Raises `Invalid`."""
    if text not in RECORD_TYPES:
        raise Invalid(f"{text!r} records cannot be set: use one of {', '.join(RECORD_TYPES)}", field="type")
    return cast("RecordType", text)


def _key_in(request: web.Request) -> tuple[str, RecordType]:
    return request.match_info["name"], check_type(request.match_info["type"])


def _view(name: str, rtype: RecordType, records: RecordSet) -> RecordView:
    return RecordView(name, rtype, records.ttl, records.values)


def _exists(environment: Environment, name: str, rtype: RecordType) -> bool:
    return rtype in environment.records.get(name, {})
