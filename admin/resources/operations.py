"""Health and metrics, for the machines of operators: beside the API, and alone in the process of a resolver."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from inspect import isawaitable
from typing import Annotated

from aiohttp import web
from msgspec import Meta, Struct

from admin.auth.access import Access
from admin.http.context import CONTEXT
from admin.http.inputs import read_query
from admin.http.insiders import is_insider
from admin.http.middleware import answer_problems
from admin.http.replies import add_headers
from admin.http.route import Route, register


@dataclass(frozen=True, slots=True)
class Probe:
    """Whether one part of the process is ready."""

    ok: bool
    """Whether it is ready."""
    reason: str = ""
    """Why it is not ready, in one line; ``""`` if it is."""
    note: str = ""
    """What is wrong though it is ready, in one line; ``""`` if nothing is."""


Readiness = Callable[[], Mapping[str, Probe]]
"""Gives the probe of each part by the part's name."""
Exposition = tuple[bytes, str]
"""The metrics in an exposition format of Prometheus, and the content type of that format."""
Metrics = Callable[[], Exposition | Awaitable[Exposition]]
"""Gives them, perhaps after it has asked others."""

READINESS: web.AppKey[Readiness] = web.AppKey("readiness")
METRICS: web.AppKey[Metrics] = web.AppKey("metrics")


_OF_AN_ENVIRONMENT = re.compile(rb'^[^#\n]*[{,]environment="[^\n]*\n', re.MULTILINE)
"""A line of the metrics with a label that names an environment."""


class ReadyQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """How much to show: ``verbose``, with any value or none, lists each part."""

    verbose: Annotated[
        str | None,
        Meta(description="list each part, ready or not; with the reasons for the root token and on this machine"),
    ] = None


async def get_livez(_request: web.Request) -> web.Response:
    """Show that the process is alive."""
    return web.Response(text="ok\n")


async def get_readyz(request: web.Request) -> web.Response:
    """Show whether all parts are ready."""
    query, probes = read_query(request, ReadyQuery), request.app[READINESS]()
    failing = [name for name, probe in probes.items() if not probe.ok]
    if query.verbose is not None:
        text = "\n".join(_line(name, probe, is_insider(request)) for name, probe in probes.items())
    else:
        text = f"not ready: {', '.join(failing)}" if failing else "ok"
    return web.Response(status=503 if failing else 200, text=text + "\n")


async def get_metrics(request: web.Request) -> web.Response:
    """Give the metrics, in the format of Prometheus."""
    given = request.app[METRICS]()
    exposition, content_type = await given if isawaitable(given) else given
    if CONTEXT in request.app and not is_insider(request):
        exposition = _OF_AN_ENVIRONMENT.sub(b"", exposition)  # whoever reaches the API is not told who is there
    return web.Response(body=exposition, headers={"Content-Type": content_type})


ROUTES = (
    Route("GET", "/livez", get_livez, "Show that the process is alive", Access.OPEN, {200: str}),
    Route(
        "GET",
        "/readyz",
        get_readyz,
        "Show if all parts are ready",
        Access.OPEN,
        {200: str, 503: str},
        query=ReadyQuery,
    ),
    Route("GET", "/metrics", get_metrics, "Show the metrics", Access.OPEN, {200: str}),
)


def operations_app(*, readiness: Readiness, metrics: Metrics) -> web.Application:
    """An application with these endpoints and without the API. No endpoint needs a token."""
    app = web.Application(middlewares=[answer_problems])
    app[READINESS] = readiness
    app[METRICS] = metrics
    app.on_response_prepare.append(add_headers)
    register(app, ROUTES)
    return app


def _line(name: str, probe: Probe, is_inside: bool) -> str:
    """What is said of one part. Strangers do not learn why it is so: that names the store, and as whom it is asked."""
    if not is_inside:
        return f"[+]{name} ok" if probe.ok else f"[-]{name} not ready"
    if probe.ok:
        return f"[+]{name} ok" + (f": {_in_one_line(probe.note)}" if probe.note else "")
    return f"[-]{name} {_in_one_line(probe.reason) or 'not ready'}"


def _in_one_line(text: str) -> str:
    return " ".join(text.split())
