"""Custom records: edited where they stand. What would change is shown first, and nothing else is committed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from aiohttp import web
from msgspec import Struct

from admin.auth.access import Access
from admin.commits import commit_edits, find_environment
from admin.console.difference import check_unchanged, difference, lines_of_records, record_lines, tag_of
from admin.console.forms import read_form
from admin.console.pages.environment import PAGE, reply_committed
from admin.console.rendering import show_part, show_problem
from admin.http.inputs import read_query
from admin.http.route import Route
from admin.resources.records import RecordBody, check_type
from zones.edits import DeleteRecord, PutRecord
from zones.model import Environment


class RecordQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """Which records to edit."""

    name: str
    """The name, relative to the zone."""
    type: str
    """The type."""
    action: Literal["edit", "delete"] = "edit"
    """What is to be done with them."""


class RecordForm(Struct, frozen=True, forbid_unknown_fields=True):
    """What the editor of records sends."""

    name: str
    """The name, relative to the zone."""
    type: str
    """The type."""
    ttl: int
    """The time to live, in seconds."""
    values: str
    """The values, one a line."""
    was: str = ""
    """The tag of what was there when the difference was shown."""
    step: Literal["review", "commit"] = "review"
    """Whether the difference is to be shown, or made."""

    @property
    def edit(self) -> PutRecord:
        """The edit that sets them. Raises `Invalid`."""
        values = tuple(filter(None, (line.strip() for line in self.values.splitlines())))
        return RecordBody(self.ttl, values).edit_of(self.name.strip().lower(), check_type(self.type))


class DeletionForm(Struct, frozen=True, forbid_unknown_fields=True):
    """What the deletion of records sends."""

    name: str
    """The name, relative to the zone."""
    type: str
    """The type."""
    was: str
    """The tag of what was there when the deletion was shown."""


async def get_record_editor(request: web.Request) -> web.Response:
    """Show the editor of the records of a name and type."""
    query, environment = read_query(request, RecordQuery), await find_environment(request)
    rtype = check_type(query.type)
    before = record_lines(environment, query.name, rtype)
    return show_part(
        request,
        "record_editor.html",
        environment=environment,
        query=query,
        records=environment.records.get(query.name, {}).get(rtype),
        lines=difference(before, []),
        was=tag_of(before),
    )


async def post_record(request: web.Request) -> web.Response:
    """Show what the records would become, or make them that."""
    form = await read_form(request, RecordForm)
    edit, what = form.edit, f"the {form.type} records of {form.name}"
    if form.step == "review":
        environment = await find_environment(request)
        before = record_lines(environment, edit.name, edit.type)
        after = lines_of_records(edit.name, edit.type, edit.records)
        return show_difference(request, before, after)

    def expect(environment: Environment) -> None:
        check_unchanged(what, form.was, record_lines(environment, edit.name, edit.type))

    await commit_edits(request, [edit], expect=expect)
    return reply_committed()


async def post_record_deletion(request: web.Request) -> web.Response:
    """Delete the records of a name and type."""
    form = await read_form(request, DeletionForm)
    edit = DeleteRecord(form.name, check_type(form.type))

    def expect(environment: Environment) -> None:
        before = record_lines(environment, edit.name, edit.type)
        check_unchanged(f"the {form.type} records of {form.name}", form.was, before)

    await commit_edits(request, [edit], expect=expect)
    return reply_committed()


def show_difference(request: web.Request, before: Sequence[str], after: Sequence[str]) -> web.Response:
    """The difference, with the button that makes it."""
    lines = difference(before, after)
    return show_part(request, "difference.html", lines=lines, was=tag_of(before))


ROUTES = (
    Route(
        "GET", PAGE + "/records/editor", get_record_editor, "Show the editor of records", Access.INSIDE, {200: str},
        query=RecordQuery, show_problem=show_problem,
    ),
    Route(
        "POST", PAGE + "/records", post_record, "Review or set records", Access.INSIDE, {200: str}, body=RecordForm,
        show_problem=show_problem,
    ),
    Route(
        "POST", PAGE + "/records/delete", post_record_deletion, "Delete records", Access.INSIDE, {200: str},
        body=DeletionForm, show_problem=show_problem,
    ),
)  # fmt: skip
