"""Replies: JSON, with an entity tag wherever the reply is about one environment."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from aiohttp import web
from msgspec import Struct
from msgspec.structs import asdict

from admin.http.context import CONTEXT, REVISION
from admin.http.preconditions import entity_tag, is_unchanged
from store.aside import is_large
from store.index import DELETED
from zones.document import encode_value
from zones.model import Environment
from zones.placement import NONE_AWAY, HostsAway

HEADERS = {
    "Cache-Control": "no-store",  # a reply is for the holder of the token, not for caches on the path
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Server": "interlock",  # without the versions of the software, which an attacker could use
}

_encoder = msgspec.json.Encoder(enc_hook=encode_value)


def show(
    request: web.Request,
    value: Any,
    environment: Environment | None = None,
    *,
    created: bool = False,
    away: HostsAway = NONE_AWAY,
) -> web.Response:
    """Replies with ``value`` as JSON, and with status 201 if it was ``created``.

    ``environment``, if given, is what ``value`` is about: its entity tag is the reply's, and a reader that has it
    already gets 304 and no body. The hosts in ``away`` are part of the tag, where ``value`` shows what is on them.
    """
    headers = {} if environment is None else _at(request, environment, away)
    if headers and request.method in ("GET", "HEAD") and is_unchanged(request.headers, headers["ETag"]):
        return web.Response(status=304, headers=headers)
    return web.json_response(body=_encoder.encode(value), status=201 if created else 200, headers=headers)


async def show_made(
    request: web.Request, make: Callable[[], Any], environment: Environment, away: HostsAway = NONE_AWAY
) -> web.Response:
    """Replies with what ``make`` returns of ``environment``, as `show` does; where that is large nobody else waits."""
    if not is_large(environment):
        return show(request, make(), environment, away=away)
    headers = _at(request, environment, away)
    if is_unchanged(request.headers, headers["ETag"]):
        return web.Response(status=304, headers=headers)
    aside = request.app[CONTEXT].store.environments.aside
    body = await aside.call(environment.id, lambda: _encoder.encode(make()))
    return web.json_response(body=body, headers=headers)


def show_part(
    request: web.Request,
    shape: type[Struct],
    view: Struct,
    environment: Environment,
    *,
    created: bool = False,
    away: HostsAway = NONE_AWAY,
) -> web.Response:
    """Replies with ``view``, a part of ``environment``, as `show` does.

    ``shape`` is the type of the reply: the fields of ``view``, and the revision.
    """
    value = shape(**asdict(view), revision=environment.revision)
    return show(request, value, environment, created=created, away=away)


def show_nothing(request: web.Request, environment: Environment | None = None) -> web.Response:
    """Replies that the request was carried out, with no body. ``environment``, if given, is as it is now."""
    return web.Response(status=204, headers={} if environment is None else _at(request, environment))


def show_deleted(request: web.Request, revision: int) -> web.Response:
    """Replies that an environment was deleted by ``revision``. Its entity tag matches no environment."""
    request[REVISION] = revision
    return web.Response(status=204, headers={"ETag": f'"{revision}-{DELETED}"'})


async def add_headers(_request: web.Request, response: web.StreamResponse) -> None:
    """Adds the headers that every reply carries, unless it has its own. For aiohttp's ``on_response_prepare``."""
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers["Server"] = HEADERS["Server"]  # the library has set its own by now


def _at(request: web.Request, environment: Environment, away: HostsAway = NONE_AWAY) -> dict[str, str]:
    request[REVISION] = environment.revision  # for the audit log
    return {"ETag": f'"{entity_tag(environment, away)}"'}
