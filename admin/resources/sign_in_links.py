"""Links that sign a browser in to the console as whoever sends the request: for `interlock console`."""

from __future__ import annotations

from typing import Annotated

from aiohttp import hdrs, web
from msgspec import Meta, Struct

from admin.auth.actors import bearer
from admin.auth.signins import LINK_SECONDS
from admin.http.context import ACTOR, CONTEXT
from admin.http.replies import show


class SignInLink(Struct, frozen=True):
    """A link, which works once."""

    path: str
    """The path of the page at this server that signs in."""
    seconds: Annotated[int, Meta(description="for how many seconds it works")]


async def post_sign_in_link(request: web.Request) -> web.Response:
    """Make a link that signs a browser in to the console, once."""
    token = bearer(request.headers.get(hdrs.AUTHORIZATION, ""))
    secret = await request.app[CONTEXT].sign_ins.make_link(request[ACTOR], token)
    return show(request, SignInLink(f"/console/enter/{secret}", LINK_SECONDS), created=True)
