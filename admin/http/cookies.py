"""The cookie of a sign-in to the console, and what shows that a change was made by a page of the console.

A browser sends a cookie with every request to this server, whoever had it make the request. So a change counts only
where three things agree: the cookie is not sent from other sites at all (``SameSite=Strict``), the browser itself says
that a page of this server made the request (``Sec-Fetch-Site``, ``Origin``), and the page knows a text that was made
from the cookie.
"""

from __future__ import annotations

import hmac

from aiohttp import hdrs, web

from admin.auth.signins import SIGN_IN_SECONDS, csrf_token
from admin.errors import Forbidden

COOKIE = "interlock"
SECURE_COOKIE = "__Host-interlock"  # browsers take this name by TLS alone, and from no other host (RFC 6265bis §4.1.3)
CSRF_HEADER = "X-Csrf-Token"

_NOT_OURS = "this request was not made by a page of the console: open the console again, and repeat it there"


def is_by_tls(request: web.Request) -> bool:
    """Whether the browser speaks TLS, be it with a proxy. Whoever says so though it does not harms only themselves."""
    return request.secure or request.headers.get("X-Forwarded-Proto", "").strip().lower() == "https"


def cookie_of(request: web.Request) -> str:
    """The cookie of the sign-in; empty where there is none."""
    return request.cookies.get(SECURE_COOKIE if is_by_tls(request) else COOKIE, "")


def set_cookie(request: web.Request, response: web.StreamResponse, cookie: str) -> None:
    """Gives the browser ``cookie``."""
    secure = is_by_tls(request)
    name = SECURE_COOKIE if secure else COOKIE
    response.set_cookie(
        name, cookie, max_age=SIGN_IN_SECONDS, path="/", secure=secure, httponly=True, samesite="Strict"
    )


def delete_cookie(request: web.Request, response: web.StreamResponse) -> None:
    """Has the browser forget its cookie."""
    secure = is_by_tls(request)
    name = SECURE_COOKIE if secure else COOKIE
    response.del_cookie(name, path="/", secure=secure, httponly=True, samesite="Strict")


def check_origin(request: web.Request, cookie: str) -> None:
    """Raises `Forbidden` unless a page of this server has made ``request``, and knows what belongs to ``cookie``.

    Without a cookie there is nothing to know; the browser's word has to do. So it has when somebody signs in, for the
    page may have been there before another page of the browser signed in.
    """
    if request.headers.get("Sec-Fetch-Site", "same-origin") != "same-origin":
        raise Forbidden(_NOT_OURS)
    origin = request.headers.get(hdrs.ORIGIN)
    if origin is not None and origin.partition("://")[2] != request.headers.get(hdrs.HOST):
        raise Forbidden(_NOT_OURS)
    if cookie and not hmac.compare_digest(request.headers.get(CSRF_HEADER, "").encode(), csrf_token(cookie).encode()):
        raise Forbidden(_NOT_OURS)
