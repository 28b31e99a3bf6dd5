"""Tokens, those of an environment and admin tokens: made, listed, revoked."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated

from aiohttp import web
from msgspec import Meta, Struct
from msgspec.structs import asdict

from admin.auth import tokens
from admin.commits import environment_in, find_environment
from admin.http.context import CONTEXT
from admin.http.fields import time_of
from admin.http.inputs import read_body
from admin.http.replies import show, show_nothing
from admin.resources.quotas import quota_of
from store.store import Store
from store.tokens import Token
from zones.errors import Conflict, Invalid, Missing
from zones.quota import QuotaExceeded

MOST_ADMIN_TOKENS = 100  # each opens everything
MOST_DAYS = 3650  # until a token expires; a later day is a mistake
ADMIN = ""  # stands where a token has its environment, for one that is for all of them


class TokenView(Struct, frozen=True, omit_defaults=True):
    """A token, without its secret. What is false or unknown is left out."""

    id: str
    """The id, by which it is removed."""
    name: str
    """What the token is for."""
    environment: str | None
    """The environment that it is good for; null for an admin token, which is good for all of them."""
    created: datetime
    """When it was made."""
    expires: datetime | None = None
    """From when on it is good no more; left out for one that is good until it is removed."""
    read_only: bool = False
    """Whether it opens nothing that changes anything."""
    used: datetime | None = None
    """When it was used last, to the minute; left out for one that never was."""


class TokenReply(TokenView, frozen=True, kw_only=True, omit_defaults=True):
    """A token that was just made. ``token`` is the secret; it is shown this once, for only a digest of it is kept."""

    token: str
    """The secret, which is shown this once."""


class TokenList(Struct, frozen=True):
    """The tokens of an environment, or the admin tokens, oldest first."""

    tokens: tuple[TokenView, ...]
    """The tokens."""


class TokenBody(Struct, frozen=True, forbid_unknown_fields=True):
    """A token to be made. ``name`` is for people: what the token is for."""

    name: Annotated[str, Meta(min_length=1, max_length=64)]
    """What the token is for, for people."""
    expires_in_days: Annotated[int, Meta(ge=1, le=MOST_DAYS)] | None = None
    """After how many days it is good no more; null for one that is good until it is removed."""
    read_only: bool = False
    """Whether it is to open nothing that changes anything."""

    def __post_init__(self) -> None:
        if not self.name.isprintable():
            raise Invalid("the name has a character that cannot be printed: use letters and digits", field="name")


async def post_token(request: web.Request) -> web.Response:
    """Make a token that is for one environment; it is shown this once."""
    body, environment = await read_body(request, TokenBody), await find_environment(request)
    return await _make(request, environment.id, body)


async def list_tokens(request: web.Request) -> web.Response:
    """List the tokens of an environment."""
    return await _list(request, (await find_environment(request)).id)


async def delete_token(request: web.Request) -> web.Response:
    """Revoke a token."""
    return await _delete(request, environment_in(request))


async def post_admin_token(request: web.Request) -> web.Response:
    """Make an admin token; it is shown this once."""
    return await _make(request, ADMIN, await read_body(request, TokenBody))


async def list_admin_tokens(request: web.Request) -> web.Response:
    """List the admin tokens."""
    return await _list(request, ADMIN)


async def delete_admin_token(request: web.Request) -> web.Response:
    """Revoke an admin token."""
    return await _delete(request, ADMIN)


async def _make(request: web.Request, environment: str, body: TokenBody) -> web.Response:
    context = request.app[CONTEXT]
    present = len(await _tokens_of(context.store, environment))
    if environment and present >= (limit := (await quota_of(request)).tokens):
        raise QuotaExceeded(environment, "tokens", limit, present)
    if not environment and present >= MOST_ADMIN_TOKENS:
        raise Conflict(f"there are {present} admin tokens, the most that there may be: delete one that is unused")
    secret, now = tokens.make_token(), await context.store.clock.milliseconds()
    expires = None if body.expires_in_days is None else now + body.expires_in_days * 86_400_000
    token = Token(tokens.make_token_id(), environment, body.name, now, expires, body.read_only)
    await context.store.tokens.add(tokens.digest(secret), token)
    context.identifier.note_good(tokens.digest(secret))
    return show(request, TokenReply(**asdict(_view(token, {})), token=secret), created=True)


async def _list(request: web.Request, environment: str) -> web.Response:
    store = request.app[CONTEXT].store
    found, uses = await _tokens_of(store, environment), await store.tokens.uses()
    return show(request, TokenList(tuple(_view(token, uses) for token in found.values())))


async def _delete(request: web.Request, environment: str) -> web.Response:
    store, id_ = request.app[CONTEXT].store, request.match_info["token_id"]
    found = {digest: token for digest, token in (await _tokens_of(store, environment)).items() if token.id == id_}
    if not found:
        whose = f"the environment {environment!r} has no token" if environment else "there is no admin token"
        raise Missing(f"{whose} {id_!r}", field="token_id")
    await store.tokens.remove(found)
    return show_nothing(request)


async def _tokens_of(store: Store, environment: str) -> dict[str, Token]:
    found = [
        (digest, token) for digest, token in (await store.tokens.read()).items() if token.environment == environment
    ]
    return dict(sorted(found, key=lambda item: (item[1].created, item[1].id)))


def _view(token: Token, uses: Mapping[str, int]) -> TokenView:
    return TokenView(
        token.id,
        token.name,
        token.environment or None,
        time_of(token.created),
        expires=None if token.expires is None else time_of(token.expires),
        read_only=token.read_only,
        used=time_of(uses[token.id]) if token.id in uses else None,
    )
