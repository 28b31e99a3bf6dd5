"""Handlers of an environment's tokens: made, listed, revoked."""

from __future__ import annotations

from aiohttp import web
from msgspec import Struct

from admin.auth import tokens
from admin.context import CONTEXT
from admin.http.inputs import environment_in, read_body
from admin.http.replies import show, show_nothing
from admin.resources.bodies import TokenBody
from admin.resources.environments import find_environment
from admin.resources.views import TokenView, view_new_token, view_token
from store.store import Store
from store.tokens import Token
from support.clock import unix_milliseconds
from zones.errors import Conflict, Missing
from zones.names import EnvironmentId

MAX_TOKENS = 100  # of one environment; all tokens of the platform are read to list those of one


class TokenList(Struct, frozen=True):
    """The tokens of an environment, oldest first."""

    tokens: tuple[TokenView, ...]


async def post_token(request: web.Request) -> web.Response:
    """Make a token that is for one environment; it is shown this once."""
    store, body = request.app[CONTEXT].store, await read_body(request, TokenBody)
    environment = await find_environment(request)
    if len(await _tokens_of(store, environment.id)) >= MAX_TOKENS:
        raise Conflict(f"the environment has {MAX_TOKENS} tokens, as many as it may: delete one that is not used")
    secret = tokens.make_token()
    token = Token(tokens.make_token_id(), environment.id, body.name, unix_milliseconds())
    await store.tokens.add(tokens.digest(secret), token)
    return show(request, view_new_token(token, secret), created=True)


async def list_tokens(request: web.Request) -> web.Response:
    """List the tokens of an environment."""
    environment = await find_environment(request)
    found = await _tokens_of(request.app[CONTEXT].store, environment.id)
    return show(request, TokenList(tuple(view_token(token) for token in found.values())))


async def delete_token(request: web.Request) -> web.Response:
    """Revoke a token."""
    store, environment, id_ = request.app[CONTEXT].store, environment_in(request), request.match_info["token_id"]
    digests = [digest for digest, token in (await _tokens_of(store, environment)).items() if token.id == id_]
    if not digests:
        raise Missing(f"the environment {environment!r} has no token {id_!r}", field="token_id")
    await store.tokens.remove(digests)
    return show_nothing(request)


async def _tokens_of(store: Store, environment: EnvironmentId) -> dict[str, Token]:
    theirs = [
        (digest, token) for digest, token in (await store.tokens.read()).items() if token.environment == environment
    ]
    return dict(sorted(theirs, key=lambda item: (item[1].created, item[1].id)))
