"""The tokens of an environment: made, listed, revoked."""

from __future__ import annotations

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
from store.store import Store
from store.tokens import Token
from zones.errors import Conflict, Invalid, Missing
from zones.names import EnvironmentId

MAX_TOKENS = 100  # of one environment; to list them, the tokens of the whole platform are read


class TokenView(Struct, frozen=True):
    """A token, without its secret."""

    id: str
    """The id, by which it is removed."""
    name: str
    """What the token is for."""
    environment: str
    """The environment that it is good for."""
    created: datetime
    """When it was made."""


class TokenReply(TokenView, frozen=True):
    """A token that was just made. ``token`` is the secret; it is shown this once, for only a digest of it is kept."""

    token: str
    """The secret, which is shown this once."""


class TokenList(Struct, frozen=True):
    """The tokens of an environment, oldest first."""

    tokens: tuple[TokenView, ...]
    """The tokens."""


class TokenBody(Struct, frozen=True, forbid_unknown_fields=True):
    """A token to be made. ``name`` is for people: what the token is for."""

    name: Annotated[str, Meta(min_length=1, max_length=64)]
    """What the token is for, for people."""

    def __post_init__(self) -> None:
        if not self.name.isprintable():
            raise Invalid("the name has a character that cannot be printed: use letters and digits", field="name")


async def post_token(request: web.Request) -> web.Response:
    """Make a token that is for one environment; it is shown this once."""
    store, body = request.app[CONTEXT].store, await read_body(request, TokenBody)
    environment = await find_environment(request)
    if len(await _tokens_of(store, environment.id)) >= MAX_TOKENS:
        raise Conflict(f"the environment has {MAX_TOKENS} tokens, the most that it may have: delete one that is unused")
    secret = tokens.make_token()
    token = Token(tokens.make_token_id(), environment.id, body.name, await store.clock.milliseconds())
    await store.tokens.add(tokens.digest(secret), token)
    return show(request, TokenReply(**asdict(_view(token)), token=secret), created=True)


async def list_tokens(request: web.Request) -> web.Response:
    """List the tokens of an environment."""
    environment = await find_environment(request)
    found = await _tokens_of(request.app[CONTEXT].store, environment.id)
    return show(request, TokenList(tuple(_view(token) for token in found.values())))


async def delete_token(request: web.Request) -> web.Response:
    """Revoke a token."""
    store, environment, id_ = request.app[CONTEXT].store, environment_in(request), request.match_info["token_id"]
    digests = [digest for digest, token in (await _tokens_of(store, environment)).items() if token.id == id_]
    if not digests:
        raise Missing(f"the environment {environment!r} has no token {id_!r}", field="token_id")
    await store.tokens.remove(digests)
    return show_nothing(request)


async def _tokens_of(store: Store, environment: EnvironmentId) -> dict[str, Token]:
    found = [
        (digest, token) for digest, token in (await store.tokens.read()).items() if token.environment == environment
    ]
    return dict(sorted(found, key=lambda item: (item[1].created, item[1].id)))


def _view(token: Token) -> TokenView:
    return TokenView(token.id, token.name, token.environment, time_of(token.created))
