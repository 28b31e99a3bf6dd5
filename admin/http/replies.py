"""Answers: JSON, with the revision as entity tag wherever one environment is told of."""

from __future__ import annotations

from typing import Any

import msgspec
from aiohttp import web

from admin.context import REVISION
from admin.http.preconditions import entity_tag, is_unchanged
from zones.document import encode_value

HEADERS = {
    "Cache-Control": "no-store",  # answers are for the holder of a token, not for what stands in between
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Server": "interlock",  # without the versions of what it runs on
}

_encoder = msgspec.json.Encoder(enc_hook=encode_value)


def show(request: web.Request, value: Any, revision: int | None = None, *, created: bool = False) -> web.Response:
    """``value`` as JSON. With ``revision``, as it is at that one: 304 for a reader that has it."""
    headers = {}
    if revision is not None:
        request[REVISION] = revision
        headers["ETag"] = entity_tag(revision)
        if request.method in ("GET", "HEAD") and is_unchanged(request.headers, revision):
            return web.Response(status=304, headers=headers)
    return web.Response(
        status=201 if created else 200,
        body=_encoder.encode(value),
        content_type="application/json",
        headers=headers,
    )


def show_nothing(request: web.Request, revision: int | None = None) -> web.Response:
    """Done, and there is nothing to show; the environment is at ``revision`` now."""
    if revision is None:
        return web.Response(status=204)
    request[REVISION] = revision
    return web.Response(status=204, headers={"ETag": entity_tag(revision)})


async def add_headers(_request: web.Request, response: web.StreamResponse) -> None:
    """Adds what every answer carries. For ``on_response_prepare``."""
    response.headers.update(HEADERS)
