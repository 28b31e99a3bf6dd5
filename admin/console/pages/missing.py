"""What is no page of the console: whoever typed it wrongly is led on."""

from __future__ import annotations

from aiohttp import web

from admin.auth.access import Access
from admin.console.rendering import show_problem, to_page
from admin.http.route import Route
from zones.errors import Missing


async def get_console(request: web.Request) -> web.Response:
    """Lead to the first page."""
    return to_page(request, "/")


async def get_missing(request: web.Request) -> web.Response:
    """Say that there is no such page."""
    if not request.match_info["missing"]:
        return to_page(request, "/")
    raise Missing("the console has no such page")


ROUTES = (
    Route("GET", "/console", get_console, "Lead to the start", Access.OPEN, {303: None}, show_problem=show_problem),
    Route(
        "GET", "/console/{missing:.*}", get_missing, "Say that there is no such page", Access.OPEN, {303: None},
        show_problem=show_problem,
    ),
)  # fmt: skip
"""They come last: the first route that fits is taken."""
