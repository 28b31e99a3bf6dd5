"""What a route is: the one description that registers a handler, guards it, and documents it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Access(Enum):
    """Which tokens open a route."""

    OPEN = "none is needed"
    ANY = "any token; the handler shows each what is its own"
    INSIDE = "root's token, or one of the environment in the path"
    ROOT = "root's token"


@dataclass(frozen=True, slots=True)
class Route:
    """One method on one path.

    ``replies`` says what each successful status carries: a type (JSON), ``str`` (plain text) or None (nothing).
    ``refusals`` are the statuses of its own with which it may refuse; those that follow from access, query and body
    need not be named.
    """

    method: str
    path: str
    handler: Handler
    summary: str
    access: Access
    replies: Mapping[int, Any]
    body: Any = None
    query: Any = None
    refusals: frozenset[int] = frozenset()

    @property
    def name(self) -> str:
        """A name of its own: the handler's."""
        return getattr(self.handler, "__name__", self.path)

    @property
    def is_write(self) -> bool:
        return self.method not in ("GET", "HEAD")


def register(app: web.Application, routes: tuple[Route, ...]) -> None:
    """Adds ``routes`` to ``app``, each GET with its HEAD (RFC 9110 §9.1)."""
    app[ROUTES] = {route.handler: route for route in routes}
    for route in routes:
        if route.method == "GET":
            app.router.add_get(route.path, route.handler, allow_head=True)
        else:
            app.router.add_route(route.method, route.path, route.handler)


def route_of(request: web.Request) -> Route | None:
    """The route that ``request`` takes; None where there is none for its path and method."""
    return request.app[ROUTES].get(request.match_info.handler)


ROUTES: web.AppKey[dict[Handler, Route]] = web.AppKey("routes", dict)
