"""The overview: what there is, how it is, what is wrong and how to mend it. For those who see all of the platform."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from aiohttp import web
from msgspec import Meta, Struct

from admin.auth.access import Access
from admin.commits import commit_environment
from admin.console.context import CONSOLE, Console
from admin.console.figures import RATES, take_figures
from admin.console.forms import read_form
from admin.console.rendering import show_page, show_part, show_problem, to_page
from admin.console.state import Known
from admin.errors import PreconditionFailed
from admin.http.context import CONTEXT
from admin.http.fields import EnvironmentName
from admin.http.inputs import read_query
from admin.http.pages import PageQuery, cut_page
from admin.http.route import Route
from zones.errors import Conflict
from zones.names import check_environment_id

ROWS = 50  # environments on one page of the list
SERVICES_NAMED = 3  # services of an environment that a search names
DOCTOR_EVERY = 5.0  # seconds for which all who look are shown the same report

PAGE = "/console/overview"


class ListQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """Which environments to list."""

    q: Annotated[str, Meta(max_length=100)] = ""
    """A part of the name of an environment, or of a service in it."""
    after: str = ""
    """The last environment of the page before."""


class EnvironmentForm(Struct, frozen=True, forbid_unknown_fields=True):
    """What the form of a new environment sends."""

    environment: EnvironmentName
    """Its id."""


async def get_overview(request: web.Request) -> web.Response:
    """Show the overview."""
    console, query = request.app[CONSOLE], read_query(request, ListQuery)
    figures = await take_figures(console, request.app[CONTEXT].store, request.app[RATES])
    return show_page(request, "overview.html", figures=figures, **_list(console, query))


async def get_list(request: web.Request) -> web.Response:
    """Show a page of the list of environments."""
    return show_part(request, "environment_list.html", **_list(request.app[CONSOLE], read_query(request, ListQuery)))


async def get_doctor(request: web.Request) -> web.Response:
    """Show what is wrong, each with its fix."""
    return show_part(request, "doctor.html", report=await request.app[REPORTS].read(request))


async def post_environment(request: web.Request) -> web.Response:
    """Create an environment, and show it."""
    form = await read_form(request, EnvironmentForm)
    id_ = check_environment_id(form.environment)
    request.match_info["environment"] = id_  # as in the API, where it is in the path
    try:
        await commit_environment(request, [])
    except PreconditionFailed as error:
        raise Conflict(f"there is an environment {id_!r} already: give the new one another name") from error
    return to_page(request, f"/console/environments/{id_}")


class Reports:
    """What the doctor says of the platform, asked once for all who look at the same time."""

    def __init__(self) -> None:
        self._made = -math.inf
        self._report: Mapping[str, Any] = {}
        self._asking = asyncio.Lock()

    async def read(self, request: web.Request) -> Mapping[str, Any]:
        """The report, at most `DOCTOR_EVERY` seconds old; who asks while one is made is given that one."""
        async with self._asking:
            began = time.monotonic()
            if began - self._made >= DOCTOR_EVERY:
                report = await request.app[CONTEXT].diagnose(None, None, None, None, is_whole=True)
                self._made = time.monotonic()
                self._report = {"seconds": round(self._made - began, 3), **report}
            return self._report


REPORTS = web.AppKey("reports of the doctor", Reports)


def _list(console: Console, query: ListQuery) -> dict[str, Any]:
    """What the template of the list is given."""
    wanted = query.q.strip().lower()
    found = [(id_, known) for id_, known in console.state.environments.items() if _matches(known, wanted)]
    page, following = cut_page(found, lambda item: item[0], PageQuery(ROWS, query.after))
    rows = [(known.environment, known.census, _services_like(known, wanted)) for _, known in page]
    return {
        "rows": rows,
        "query": query,
        "following": following,
        "matches": len(found),
        "version": console.state.version,
        "is_loaded": console.state.is_loaded,
    }


def _matches(known: Known, wanted: str) -> bool:
    environment = known.environment
    return not wanted or wanted in environment.id or any(wanted in name for name in environment.services)


def _services_like(known: Known, wanted: str) -> Sequence[str]:
    if not wanted:
        return ()
    return [name for name in known.environment.services if wanted in name][:SERVICES_NAMED]


ROUTES = (
    Route(
        "GET", PAGE, get_overview, "Show the overview", Access.ROOT, {200: str}, query=ListQuery,
        show_problem=show_problem,
    ),
    Route(
        "GET", PAGE + "/environments", get_list, "Show a page of the environments", Access.ROOT, {200: str},
        query=ListQuery, show_problem=show_problem,
    ),
    Route(
        "GET", PAGE + "/doctor", get_doctor, "Show what is wrong", Access.ROOT, {200: str}, show_problem=show_problem
    ),
    Route(
        "POST", "/console/environments", post_environment, "Create an environment", Access.ROOT, {303: None},
        body=EnvironmentForm, show_problem=show_problem,
    ),
)  # fmt: skip
