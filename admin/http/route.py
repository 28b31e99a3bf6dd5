"""What a route is: one description that registers the handler, guards it and documents it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from aiohttp import web

from admin.auth.access import Access

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class ShowProblem(Protocol):
    """Makes the reply that shows a problem: its status, its kind in some words, what to do, and the field at fault."""

    def __call__(self, request: web.Request, status: int, title: str, detail: str, field: str) -> web.Response: ...


@dataclass(frozen=True, slots=True)
class Route:
    """One method on one path."""

    method: str
    """The HTTP method. A GET route answers HEAD too."""
    path: str
    """The path, with its parameters in braces, as in ``/v1/hosts/{host}``."""
    handler: Handler
    """The function that answers."""
    summary: str
    """What the route does, in some words, for the API's description."""
    access: Access
    """Which tokens open the route."""
    replies: Mapping[int, Any]
    """What the reply of each successful status holds: a type (as JSON), ``str`` (plain text) or None (nothing)."""
    body: Any = None
    """The type of the request's body; None if the request has none."""
    query: Any = None
    """The type of the query parameters; None if there are none."""
    refusals: frozenset[int] = frozenset()
    """The statuses with which this route may refuse. Those that follow from access, query and body are left out."""
    show_problem: ShowProblem | None = None
    """What shows a problem to whoever sent the request, for a page of the console; None: a problem document."""
    is_stream: bool = False
    """Whether its reply goes on for as long as the client listens, so that no limit of time ends it."""

    begins_sign_in: bool = False
    """Whether it signs somebody in, be it in a browser in which somebody has signed in already."""

    @property
    def name(self) -> str:
        """A unique name: that of the handler."""
        return getattr(self.handler, "__name__", self.path)

    @property
    def by_sign_in(self) -> bool:
        """Whether the client is known by the cookie of a sign-in, as browsers are, and by no token."""
        return self.show_problem is not None

    @property
    def is_write(self) -> bool:
        return self.method not in ("GET", "HEAD")


def register(app: web.Application, routes: tuple[Route, ...]) -> None:
    """Adds ``routes`` to ``app``, and to each GET its HEAD (RFC 9110 §9.1)."""
    app[ROUTES] = {route.handler: route for route in routes}
    for route in routes:
        if route.method == "GET":
            app.router.add_get(route.path, route.handler, allow_head=True)
        else:
            app.router.add_route(route.method, route.path, route.handler)


def route_of(request: web.Request) -> Route | None:
    """The route of ``request``; None if the API does not have its path, or not with its method."""
    return request.app[ROUTES].get(request.match_info.handler)


ROUTES: web.AppKey[dict[Handler, Route]] = web.AppKey("routes", dict)
