"""Pages from templates: the adapter of Jinja2, with what every page has.

All that is put into a template is escaped, wherever it is from; no page has a script or a style of its own in it, and
the browser is told to run none (`SECURITY`).
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlsplit

import jinja2
from aiohttp import web

from admin.auth.actors import Admin, Anonymous, Root, Tenant
from admin.auth.signins import csrf_token
from admin.console.assets import address_of
from admin.console.navigation import entries_for, home_of
from admin.http.context import ACTOR
from admin.http.cookies import cookie_of
from support.clock import in_words

SECURITY = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self';"
    " connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "same-origin",  # with none at all, browsers send the Origin of our own forms as "null"
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Frame-Options": "DENY",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
THEMES = ("light", "dark")  # any other: as the system has it
THEME_COOKIE = "interlock-theme"
PROBLEM_TARGET = "#problem"  # where a page shows what went wrong

_environment = jinja2.Environment(
    loader=jinja2.PackageLoader("admin.console"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_environment.globals["asset"] = address_of
_environment.filters["number"] = lambda value: f"{value:,}".replace(",", "\u202f")
_environment.filters["duration"] = in_words
_environment.filters["ago"] = lambda seconds: in_words(time.time() - seconds)
_environment.filters["moment"] = lambda seconds: datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def show_page(request: web.Request, template: str, status: int = 200, **values: Any) -> web.Response:
    """The page that ``template`` makes of ``values``, with the head and the foot that all pages have."""
    return _respond(render(template, **_shared(request), **values), status)


def show_part(request: web.Request, template: str, status: int = 200, **values: Any) -> web.Response:
    """A part of a page, which replaces what the page has of it."""
    return show_page(request, template, status, **values)


def render(template: str, **values: Any) -> str:
    """What ``template`` makes of ``values``."""
    return _environment.get_template(template).render(values)


def show_problem(request: web.Request, status: int, title: str, detail: str, field: str) -> web.Response:
    """The reply of a page that shows what went wrong: as a page, or as a message in the page that is open."""
    is_part = "HX-Request" in request.headers
    if status == web.HTTPUnauthorized.status_code:
        return _to_sign_in(request, is_part=is_part)
    template = "problem_part.html" if is_part else "problem.html"
    response = show_page(request, template, status, title=title, detail=detail, field=field)
    if is_part:
        response.headers["HX-Retarget"] = PROBLEM_TARGET
        response.headers["HX-Reswap"] = "innerHTML"
    return response


def to_page(request: web.Request, path: str) -> web.Response:
    """Leads the browser to the page at ``path``."""
    if "HX-Request" in request.headers:
        return web.Response(status=204, headers={"HX-Redirect": path, **SECURITY})
    return web.Response(status=303, headers={"Location": path, **SECURITY})


def _to_sign_in(request: web.Request, *, is_part: bool) -> web.Response:
    """Leads to the sign-in, and from there back to the page."""
    page = _page_in(request.headers.get("HX-Current-URL", "")) if is_part else request.raw_path
    is_page = page.startswith("/console/") and (is_part or request.method == "GET")
    path = f"/?to={quote(page, safe='/')}" if is_page else "/"
    if is_part:
        return web.Response(status=401, headers={"HX-Redirect": path, **SECURITY})
    return web.Response(status=303, headers={"Location": path, **SECURITY})


def _page_in(address: str) -> str:
    """The path and the query of ``address``, which the browser says that it shows; empty if it is none."""
    try:
        return urlsplit(address)._replace(scheme="", netloc="", fragment="").geturl()
    except ValueError:
        return ""


def _shared(request: web.Request) -> dict[str, Any]:
    """What every page is given."""
    actor = request.get(ACTOR, Anonymous())
    cookie, theme = cookie_of(request), request.cookies.get(THEME_COOKIE, "")
    is_signed_in = not isinstance(actor, Anonymous)
    return {
        "actor": actor,
        "actor_name": _name(actor),
        "is_signed_in": is_signed_in,
        "is_whole": isinstance(actor, Root | Admin),
        "may_write": isinstance(actor, Root) or (isinstance(actor, Admin | Tenant) and not actor.read_only),
        "csrf": csrf_token(cookie) if cookie and is_signed_in else "",
        "entries": entries_for(actor) if is_signed_in else (),
        "home": home_of(actor) if is_signed_in else "/",
        "path": request.path,
        "theme": theme if theme in THEMES else "",
    }


def _name(actor: Any) -> str:
    match actor:
        case Root():
            return "root"
        case Admin(id_, read_only):
            return f"admin {id_}" + (", reads only" if read_only else "")
        case Tenant(id_, environment, read_only):
            return f"{environment}, token {id_}" + (", reads only" if read_only else "")
    return ""


def _respond(text: str, status: int) -> web.Response:
    return web.Response(text=text, status=status, content_type="text/html", charset="utf-8", headers=SECURITY)
