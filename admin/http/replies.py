"""Replies: JSON, with the revision as entity tag wherever the reply is about one environment."""

from __future__ import annotations

from typing import Any

import msgspec
from aiohttp import web
from msgspec import Struct
from msgspec.structs import asdict

from admin.http.context import REVISION
from admin.http.preconditions import is_unchanged
from zones.document import encode_value

HEADERS = {
    "Cache-Control": "no-store",  # a reply is for the holder of the token, not for caches on the path
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Server": "interlock",  # without the versions of the software, which an attacker could use
}

_encoder = msgspec.json.Encoder(enc_hook=encode_value)


def show(request: web.Request, value: Any, revision: int | None = None, *, created: bool = False) -> web.Response:
    """Replies with ``value`` as JSON, and with status 201 if it was ``created``.

    ``revision``, if given, is that of the environment that ``value`` is about: it is the reply's entity tag, and a
    reader that has it already gets 304 and no body.
    """
    headers = {} if revision is None else _at(request, revision)
    if revision is not None and request.method in ("GET", "HEAD") and is_unchanged(request.headers, revision):
        return web.Response(status=304, headers=headers)
    return web.json_response(body=_encoder.encode(value), status=201 if created else 200, headers=headers)


def show_part(
    request: web.Request, shape: type[Struct], view: Struct, revision: int, *, created: bool = False
) -> web.Response:
    """Replies with ``view``, a part of an environment at ``revision``, as `show` does.

    ``shape`` is the type of the reply: the fields of ``view``, and the revision.
    """
    return show(request, shape(**asdict(view), revision=revision), revision, created=created)


def show_nothing(request: web.Request, revision: int | None = None) -> web.Response:
    """Replies that the request was carried out, with no body. ``revision``, if given, is the environment's new one."""
    return web.Response(status=204, headers={} if revision is None else _at(request, revision))


async def add_headers(_request: web.Request, response: web.StreamResponse) -> None:
    """Adds the headers that every reply carries. For aiohttp's ``on_response_prepare``."""
    response.headers.update(HEADERS)


def _at(request: web.Request, revision: int) -> dict[str, str]:
    request[REVISION] = revision  # for the audit log
    return {"ETag": f'"{revision}"'}
