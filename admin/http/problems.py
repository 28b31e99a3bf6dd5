"""Errors as replies: problem details (RFC 9457), each with what the client can do about it.

`KINDS` lists every error that is expected. Any other error is a fault of the server: it is logged under a reference,
and the client gets that reference and nothing else.
"""

from __future__ import annotations

import logging
import math
import secrets
from dataclasses import dataclass

import msgspec
from aiohttp import web

from admin import errors
from admin.http.context import ROUTE
from admin.http.insiders import is_insider
from admin.http.route import Route
from store.errors import (
    Corrupt,
    CredentialChanged,
    HostChanged,
    NetworkLost,
    NetworkTaken,
    Refused,
    RevisionConflict,
    TooManyWaiting,
    Unavailable,
    Unreplicated,
    WrongKey,
)
from zones.errors import Conflict, Invalid, Missing, ZonesError
from zones.quota import QuotaExceeded

MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:interlock:problem:"
RETRY_STORE = 1  # seconds until the client may try again; a failover of Redis takes a few
CHALLENGE = 'Bearer realm="interlock"'

log = logging.getLogger(__name__)


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """What went wrong (RFC 9457). ``type`` is for programs, ``detail`` says what to do, ``field`` is at fault."""

    type: str
    """The kind, as a URI reference that stays the same: for programs."""
    title: str
    """The kind in some words, the same for every problem of the kind."""
    status: int
    """The HTTP status of the reply."""
    detail: str
    """What is wrong this time, and what to do about it."""
    instance: str
    """The path of the request, with its query."""
    field: str = ""
    """The field or parameter that is at fault; empty where no single one is."""
    quota: str | None = None
    """Which quota is used up; left out where none is."""
    limit: int | None = None
    """The limit of that quota."""
    present: int | None = None
    """How much there is; of a document, how large it would be."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of problem."""

    status: int
    """The HTTP status of the reply."""
    name: str
    """The end of the problem's ``type``, after `TYPE_PREFIX`; also the ``outcome`` in the audit log."""
    title: str
    """The kind in some words, the same for every problem of the kind."""


KINDS: dict[type[Exception], Kind] = {
    # The client is at fault.
    errors.Malformed: Kind(400, "malformed", "The request cannot be read"),
    Invalid: Kind(400, "invalid", "The request breaks a rule"),
    errors.Unauthenticated: Kind(401, "unauthenticated", "A valid token is needed"),
    errors.Forbidden: Kind(403, "forbidden", "The token does not allow this"),
    Missing: Kind(404, "missing", "There is no such thing"),
    web.HTTPNotFound: Kind(404, "no-such-path", "The API has no such path"),
    web.HTTPMethodNotAllowed: Kind(405, "no-such-method", "The path has no such method"),
    errors.SlowBody: Kind(408, "slow-body", "The body took too long"),
    QuotaExceeded: Kind(409, "quota-exceeded", "The quota of the environment is used up"),
    Conflict: Kind(409, "conflict", "Something that exists is in the way"),
    errors.MassWithdrawal: Kind(409, "mass-withdrawal", "This deletes very much at once"),
    errors.PreconditionFailed: Kind(412, "precondition-failed", "A precondition does not hold"),
    web.HTTPRequestEntityTooLarge: Kind(413, "too-large", "The body is too large"),
    errors.UnsupportedMediaType: Kind(415, "unsupported-media-type", "The body is not JSON"),
    errors.RateLimited: Kind(429, "rate-limited", "Too many requests"),
    # Nobody is at fault.
    Corrupt: Kind(409, "damaged", "The environment is damaged in the store"),
    RevisionConflict: Kind(409, "busy", "Others write this environment at the same time"),
    NetworkTaken: Kind(409, "busy", "No free network was found"),
    CredentialChanged: Kind(409, "busy", "Others change this host at the same time"),
    HostChanged: Kind(409, "busy", "Others change this host at the same time"),
    # The server is at fault.
    WrongKey: Kind(503, "store-damaged", "The store holds something that is not Interlock's"),
    Unreplicated: Kind(503, "unconfirmed", "The write was made, and a failover may lose it"),
    Refused: Kind(503, "store-unavailable", "The store refuses"),
    Unavailable: Kind(503, "store-unavailable", "The store cannot be reached"),
    errors.TooManyViewers: Kind(503, "too-many-viewers", "Too many people look at this control plane"),
    errors.TimedOut: Kind(503, "timed-out", "The request took too long"),
}
UNEXPECTED = Kind(500, "internal", "A fault of the server")


def kind_of(error: Exception) -> Kind:
    """The kind of problem that ``error`` is."""
    for type_ in type(error).__mro__:
        if kind := KINDS.get(type_):
            return kind
    if isinstance(error, web.HTTPClientError):
        return Kind(error.status, "refused", error.reason)
    return UNEXPECTED


def answer(request: web.Request, error: Exception) -> web.Response:
    """``error`` as the reply to ``request``. An error that is not in `KINDS` is logged here."""
    kind = kind_of(error)
    detail = _detail(request, error) if is_insider(request) else _outside(request, error)
    if kind is UNEXPECTED:
        reference = secrets.token_hex(6)
        log.error("request_failed", extra={"reference": reference, "method": request.method}, exc_info=error)
        detail = f"look for the reference {reference} in the server's log"
    quota = error if isinstance(error, QuotaExceeded) else None
    field = getattr(error, "field", "") if isinstance(error, ZonesError | errors.Malformed) else ""
    route: Route | None = request.get(ROUTE)
    if route and route.show_problem:
        response = route.show_problem(request, kind.status, kind.title, detail, field)
        response.headers.update(_headers(error))
        return response
    problem = Problem(
        type=TYPE_PREFIX + kind.name,
        title=kind.title,
        status=kind.status,
        detail=detail,
        instance=request.rel_url.raw_path,
        field=field,
        quota=quota.quota if quota else None,
        limit=quota.limit if quota else None,
        present=quota.present if quota else None,
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
            return "/openapi.json lists the paths of the API"
        case web.HTTPMethodNotAllowed():
            return f"use {', '.join(sorted(error.allowed_methods))} here"
        case web.HTTPRequestEntityTooLarge():
            return f"send at most {request.client_max_size} octets; split a batch into several"
        case RevisionConflict() | NetworkTaken():
            return f"{error}, in each of several attempts: nothing was written, send the request again"
        case NetworkLost():
            return (
                f"{error}. It is served unchanged, and DELETE removes it. 'interlock store check' names what is wrong,"
                " and with --repair mends it where the other environment is not in that network"
            )
        case Corrupt():
            return (
                f"{error}. Its last good document is served on where one is known. 'interlock store check' says how it"
                " can be mended; PUT the environment with ?replace=damaged puts an empty one in its place, and DELETE"
                " removes it"
            )
        case WrongKey():
            return f"{error}; nothing was written, and names and addresses are served unchanged meanwhile"
        case Unreplicated():
            return str(error)
        case Unavailable():
            return f"{error}: send the request again later; names and addresses are served unchanged meanwhile"
    return str(error)


def _outside(request: web.Request, error: Exception) -> str:
    """The detail for a client that is not to learn where the store is, or as whom it is asked."""
    match error:
        case WrongKey():
            return "the store is damaged; nothing was written, and names and addresses are served unchanged meanwhile"
        case TooManyWaiting():
            return "too many changes wait for the store: send the request again later"
        case Unreplicated():
            return "the write was made, and a failover of the store may lose it: read before you send it again"
        case Unavailable():
            return (
                "the store does not answer: send the request again later, and read before you send a write again; names"
                " and addresses are served unchanged meanwhile"
            )
    return _detail(request, error)


def _headers(error: Exception) -> dict[str, str]:
    match error:
        case errors.Unauthenticated(presented=presented):
            # RFC 6750 §3.1: no error code for a request that had no token at all.
            return {"WWW-Authenticate": CHALLENGE + (', error="invalid_token"' if presented else "")}
        case errors.RateLimited(wait=wait):
            return {"Retry-After": str(math.ceil(wait))}
        case WrongKey():
            return {}  # it does not mend itself
        case Unreplicated():
            return {}  # sent again at once, it could be made twice
        case Unavailable() | errors.TimedOut():
            return {"Retry-After": str(RETRY_STORE)}
        case web.HTTPMethodNotAllowed():
            return {"Allow": ", ".join(sorted(error.allowed_methods))}
    return {}
