"""Handlers of custom records: the values of one name and type, below the zone."""

from __future__ import annotations

from aiohttp import web

from admin.http.inputs import read_body, read_query, record_type_in
from admin.http.pages import PageQuery, RecordPage, cut_page
from admin.http.replies import show, show_nothing
from admin.resources.bodies import RecordBody, check_record
from admin.resources.environments import find_environment
from admin.resources.views import view_environment, view_record
from admin.resources.writes import write
from zones.edits import DeleteRecord, PutRecord
from zones.model import Environment, RecordType


async def put_record(request: web.Request) -> web.Response:
    """Set the values of one name and type."""
    name, rtype = request.match_info["name"], record_type_in(request)
    values = (await read_body(request, RecordBody)).record_set()
    check_record(name, rtype, values)
    committed = await write(
        request, [PutRecord(name, rtype, values)], lambda environment: _exists(environment, name, rtype)
    )
    after = committed.after
    created = committed.before is None or not _exists(committed.before, name, rtype)
    return show(request, view_record(after, name, rtype), after.revision, created=created)


async def get_record(request: web.Request) -> web.Response:
    """Show the values of one name and type."""
    name, rtype = request.match_info["name"], record_type_in(request)
    environment = await find_environment(request)
    return show(request, view_record(environment, name, rtype), environment.revision)


async def delete_record(request: web.Request) -> web.Response:
    """Delete the values of one name and type."""
    name, rtype = request.match_info["name"], record_type_in(request)
    committed = await write(request, [DeleteRecord(name, rtype)], lambda found: _exists(found, name, rtype))
    return show_nothing(request, committed.after.revision)


async def list_records(request: web.Request) -> web.Response:
    """List the custom records of an environment."""
    query, environment = read_query(request, PageQuery), await find_environment(request)
    records = view_environment(environment).records
    page, following = cut_page(records, lambda record: f"{record.name}/{record.type}", query)
    return show(request, RecordPage(page, following, environment.revision), environment.revision)


def _exists(environment: Environment, name: str, rtype: RecordType) -> bool:
    return rtype in environment.records.get(name, {})
