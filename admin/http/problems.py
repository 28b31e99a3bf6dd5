"""Errors as answers: problem details (RFC 9457), each with what to do about it.

The table below is all that can go wrong. What is not in it is a fault of ours: it is logged under a reference, and
the client is told that reference and nothing else.
"""

from __future__ import annotations

import logging
import math
import secrets
from dataclasses import dataclass

import msgspec
from aiohttp import web

from admin import errors
from store.errors import NetworkTaken, RevisionConflict, Unavailable
from zones.errors import Conflict, Invalid, Missing, ZonesError

MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:interlock:problem:"
RETRY_STORE = 1  # seconds; the store of a failed-over Redis is back in a few
CHALLENGE = 'Bearer realm="interlock"'

log = logging.getLogger(__name__)


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """What went wrong (RFC 9457). ``type`` is for programs, ``detail`` says what to do, ``field`` what is at fault."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    field: str = ""


@dataclass(frozen=True, slots=True)
class Kind:
    """A sort of problem; ``name`` ends its type."""

    status: int
    name: str
    title: str


KINDS: dict[type[Exception], Kind] = {
    # the client's fault
    errors.Malformed: Kind(400, "malformed", "The request cannot be read"),
    Invalid: Kind(400, "invalid", "The request breaks a rule"),
    errors.Unauthenticated: Kind(401, "unauthenticated", "A valid token is needed"),
    errors.Forbidden: Kind(403, "forbidden", "The token is not for this"),
    Missing: Kind(404, "missing", "There is no such thing"),
    web.HTTPNotFound: Kind(404, "no-such-path", "The API has no such path"),
    web.HTTPMethodNotAllowed: Kind(405, "no-such-method", "The path has no such method"),
    errors.SlowBody: Kind(408, "slow-body", "The body took too long"),
    Conflict: Kind(409, "conflict", "Something that exists is in the way"),
    errors.PreconditionFailed: Kind(412, "precondition-failed", "A precondition does not hold"),
    web.HTTPRequestEntityTooLarge: Kind(413, "too-large", "The body is too large"),
    errors.UnsupportedMediaType: Kind(415, "unsupported-media-type", "The body is not JSON"),
    errors.RateLimited: Kind(429, "rate-limited", "Too many requests"),
    # nobody's
    RevisionConflict: Kind(409, "busy", "Others write this environment at the same time"),
    NetworkTaken: Kind(409, "busy", "No free network was found"),
    # ours
    Unavailable: Kind(503, "store-unavailable", "The store cannot be reached"),
    errors.TimedOut: Kind(503, "timed-out", "The request took too long"),
}
UNEXPECTED = Kind(500, "internal", "A fault of the server")


def kind_of(error: Exception) -> Kind:
    """Which sort of problem ``error`` is."""
    for type_ in type(error).__mro__:
        if kind := KINDS.get(type_):
            return kind
    if isinstance(error, web.HTTPClientError):
        return Kind(error.status, "refused", error.reason)
    return UNEXPECTED


def answer(request: web.Request, error: Exception) -> web.Response:
    """``error`` as the answer to ``request``; one that nobody expected is logged here."""
    kind = kind_of(error)
    detail = _detail(request, error)
    if kind is UNEXPECTED:
        reference = secrets.token_hex(6)
        log.error("request_failed", extra={"reference": reference, "method": request.method}, exc_info=error)
        detail = f"look for the reference {reference} in the server's log"
    problem = Problem(
        type=TYPE_PREFIX + kind.name,
        title=kind.title,
        status=kind.status,
        detail=detail,
        instance=request.rel_url.raw_path,
        field=getattr(error, "field", "") if isinstance(error, ZonesError | errors.Malformed) else "",
    )
    return web.Response(
        status=kind.status,
        body=msgspec.json.encode(problem),
        content_type=MEDIA_TYPE,
        headers=_headers(error),
    )


def _detail(request: web.Request, error: Exception) -> str:
    match error:
        case web.HTTPNotFound():
            return "see /openapi.json for the paths that there are"
        case web.HTTPMethodNotAllowed():
            return f"use {', '.join(sorted(error.allowed_methods))} here"
        case web.HTTPRequestEntityTooLarge():
            return f"send at most {request.client_max_size} octets; cut a batch into several"
        case RevisionConflict() | NetworkTaken():
            return f"{error}, and so it went several times: nothing was written, send the request again"
        case Unavailable():
            return f"{error}: nothing of what is served changes meanwhile; send the request again later"
    return str(error)


def _headers(error: Exception) -> dict[str, str]:
    match error:
        case errors.Unauthenticated(presented=presented):
            # RFC 6750 §3.1: no error code for a request that had no token at all.
            return {"WWW-Authenticate": CHALLENGE + (', error="invalid_token"' if presented else "")}
        case errors.RateLimited(wait=wait):
            return {"Retry-After": str(math.ceil(wait))}
        case Unavailable() | errors.TimedOut():
            return {"Retry-After": str(RETRY_STORE)}
        case web.HTTPMethodNotAllowed():
            return {"Allow": ", ".join(sorted(error.allowed_methods))}
    return {}
