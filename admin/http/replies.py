"""Replies: JSON, with the revision as entity tag wherever the reply is about one environment."""

from __future__ import annotations

from typing import Any

import msgspec
from aiohttp import web

from admin.http.context import REVISION
from admin.http.preconditions import entity_tag, is_unchanged
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
    if revision is None:
        return web.json_response(body=_encoder.encode(value), status=201 if created else 200)
    request[REVISION] = revision
    headers = {"ETag": entity_tag(revision)}
    if request.method in ("GET", "HEAD") and is_unchanged(request.headers, revision):
        return web.Response(status=304, headers=headers)
    return web.json_response(body=_encoder.encode(value), status=201 if created else 200, headers=headers)


def show_nothing(request: web.Request, revision: int | None = None) -> web.Response:
    """Replies that the request was carried out, with no body. ``revision``, if given, is the environment's new one."""
    if revision is None:
        return web.Response(status=204)
    request[REVISION] = revision
    return web.Response(status=204, headers={"ETag": entity_tag(revision)})


async def add_headers(_request: web.Request, response: web.StreamResponse) -> None:
    """Adds the headers that every reply carries. For aiohttp's ``on_response_prepare``."""
    response.headers.update(HEADERS)
