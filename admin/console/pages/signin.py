"""Signing in and out: with a token, or with a link that `interlock console` has made."""

from __future__ import annotations

import time

from aiohttp import web
from msgspec import Struct

from admin.auth.access import Access
from admin.auth.actors import Actor, Anonymous
from admin.console.forms import read_form
from admin.console.navigation import home_of
from admin.console.rendering import show_page, show_problem, to_page
from admin.errors import RateLimited
from admin.http.context import ACTOR, CONTEXT
from admin.http.cookies import cookie_of, delete_cookie, set_cookie
from admin.http.inputs import read_query
from admin.http.limits import source_network
from admin.http.route import Route

NOT_VALID = "This token is not valid, or no longer."
LINK_NOT_VALID = "This link was used, or its time is over. ‘interlock console’ makes another."


class StartQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """Where to go."""

    to: str = ""
    """The page to show once somebody has signed in."""


class SignInForm(Struct, frozen=True, forbid_unknown_fields=True):
    """What the form of the sign-in sends."""

    token: str
    """The token."""
    to: str = ""
    """The page to show then."""


class LinkForm(Struct, frozen=True, forbid_unknown_fields=True):
    """What the page of a link sends."""

    link: str
    """The secret of the link."""


async def get_start(request: web.Request) -> web.Response:
    """Show the sign-in, or lead on whoever has signed in."""
    query, actor = read_query(request, StartQuery), request[ACTOR]
    if not isinstance(actor, Anonymous):
        return to_page(request, _checked(query.to) or home_of(actor))
    return show_page(request, "sign_in.html", to=_checked(query.to), problem="", link="")


async def post_sign_in(request: web.Request) -> web.Response:
    """Sign in with a token."""
    form, context = await read_form(request, SignInForm), request.app[CONTEXT]
    token, network = form.token.strip(), source_network(request.remote or "")
    actor, is_counted = await context.identifier.identify(f"Bearer {token}", network)
    if isinstance(actor, Anonymous):
        if not is_counted:
            _count_attempt(request, network)
        return show_page(request, "sign_in.html", 401, to=_checked(form.to), problem=NOT_VALID, link="")
    return _signed_in(request, actor, await context.sign_ins.begin(actor, token), _checked(form.to))


async def get_link(request: web.Request) -> web.Response:
    """Show the page behind a link, which then signs in. The link itself is not used by looking at it."""
    return show_page(request, "sign_in.html", to="", problem="", link=request.match_info["link"])


async def post_link(request: web.Request) -> web.Response:
    """Sign in with a link."""
    form, context = await read_form(request, LinkForm), request.app[CONTEXT]
    network = source_network(request.remote or "")
    _count_attempt(request, network)
    actor, cookie = await context.sign_ins.follow_link(form.link)
    if isinstance(actor, Anonymous):
        return show_page(request, "sign_in.html", 401, to="", problem=LINK_NOT_VALID, link="")
    context.anonymous_buckets.give_back(network)
    return _signed_in(request, actor, cookie, "")


async def post_sign_out(request: web.Request) -> web.Response:
    """Sign out."""
    await request.app[CONTEXT].sign_ins.end(cookie_of(request))
    response = to_page(request, "/")
    delete_cookie(request, response)
    return response


def _signed_in(request: web.Request, actor: Actor, cookie: str, to: str) -> web.Response:
    request[ACTOR] = actor  # for the audit log
    response = to_page(request, to or home_of(actor))
    set_cookie(request, response, cookie)
    return response


def _count_attempt(request: web.Request, network: str) -> None:
    """Raises `RateLimited` where too many attempts came from ``network``: as many as the API takes without a token."""
    if wait := request.app[CONTEXT].anonymous_buckets.take(network, time.monotonic()):
        raise RateLimited("too many attempts to sign in: wait as long as Retry-After says", wait=wait)


def _checked(to: str) -> str:
    """``to``, if it is a page of the console; else empty, for whoever made the address may lead elsewhere."""
    return to if to.startswith("/console/") and "\\" not in to and "//" not in to and to.isprintable() else ""


ROUTES = (
    Route(
        "GET", "/", get_start, "Show the sign-in", Access.OPEN, {200: str}, query=StartQuery, show_problem=show_problem
    ),
    Route(
        "POST", "/console/sign-in", post_sign_in, "Sign in", Access.OPEN, {303: None}, body=SignInForm,
        show_problem=show_problem, begins_sign_in=True,
    ),
    Route(
        "GET", "/console/enter/{link}", get_link, "Follow a link", Access.OPEN, {200: str}, show_problem=show_problem
    ),
    Route(
        "POST", "/console/enter", post_link, "Sign in by a link", Access.OPEN, {303: None}, body=LinkForm,
        show_problem=show_problem, begins_sign_in=True,
    ),
    Route("POST", "/console/sign-out", post_sign_out, "Sign out", Access.OPEN, {303: None}, show_problem=show_problem),
)  # fmt: skip
