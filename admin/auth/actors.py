"""Who asks, and what they may do."""

from __future__ import annotations

import hmac
from dataclasses import dataclass

from admin.auth import tokens
from admin.errors import Forbidden, Unauthenticated
from admin.http.route import Access
from store.store import Store

SEND_A_TOKEN = "send 'Authorization: Bearer TOKEN'; the root token lies in admin.token in the state directory"  # noqa: S105


@dataclass(frozen=True, slots=True)
class Root:
    """The holder of the root token, who may do everything."""

    id: str = "root"


@dataclass(frozen=True, slots=True)
class Tenant:
    """The holder of an environment's token: ``id`` is the token's, never the token itself."""

    id: str
    environment: str


@dataclass(frozen=True, slots=True)
class Stranger:
    """Somebody without a valid token; ``presented`` says whether there was one at all."""

    presented: bool = False
    id: str = "anonymous"


Actor = Root | Tenant | Stranger


async def identify(authorization: str, root_token_digest: str, store: Store) -> Actor:
    """Who sent the header ``Authorization: <authorization>`` (RFC 6750 §2.1)."""
    scheme, _, token = authorization.partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token:
        return Stranger(presented=bool(authorization))
    digest = tokens.digest(token)
    if hmac.compare_digest(digest, root_token_digest):
        return Root()
    found = await store.tokens.find(digest) if tokens.is_well_formed(token) else None
    return Tenant(found.id, found.environment) if found else Stranger(presented=True)


def authorize(actor: Actor, access: Access, environment: str | None) -> None:
    """Returns where ``actor`` may take a route with ``access``; ``environment`` is the one in its path.

    Raises `Unauthenticated` and `Forbidden`. What is refused is refused before the store is asked, so the answer
    says nothing about what exists.
    """
    match actor:
        case _ if access is Access.OPEN:
            return
        case Stranger(presented):
            problem = "the token is not, or no longer, valid" if presented else "a token is needed"
            raise Unauthenticated(f"{problem}: {SEND_A_TOKEN}", presented=presented)
        case Root():
            return
        case Tenant() if access is Access.ANY:
            return
        case Tenant() if access is Access.INSIDE and environment is not None:
            authorize_environment(actor, environment)
        case Tenant():
            raise Forbidden("this needs the root token: a token of an environment is for what is inside it")


def authorize_environment(actor: Actor, environment: str) -> None:
    """Returns where ``actor`` may look into ``environment``, which need not exist. Raises `Forbidden`."""
    if isinstance(actor, Tenant) and actor.environment != environment:
        raise Forbidden(f"this token is for the environment {actor.environment!r} only: use one of that environment's")
