"""Who sent a request: the holder of the root token, the holder of an environment's token, or an anonymous client."""

from __future__ import annotations

import hmac
from dataclasses import dataclass

from admin.auth import tokens
from store.store import Store


@dataclass(frozen=True, slots=True)
class Root:
    """The holder of the root token, who may do everything."""

    id: str = "root"
    """How the audit log names the actor."""


@dataclass(frozen=True, slots=True)
class Tenant:
    """The holder of a token that is for one environment."""

    id: str
    """The id of the token, which is no secret; never the token itself."""
    environment: str
    """The environment that the token is for."""


@dataclass(frozen=True, slots=True)
class Anonymous:
    """A client without a valid token."""

    presented: bool = False
    """Whether the client sent an ``Authorization`` header, though no valid one."""
    id: str = "anonymous"
    """How the audit log names the actor."""


Actor = Root | Tenant | Anonymous


async def identify(authorization: str, root_token_digest: str, store: Store) -> Actor:
    """The actor that sent the header ``Authorization: <authorization>`` (RFC 6750 §2.1); ``""`` means no header."""
    scheme, _, token = authorization.partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token:
        return Anonymous(presented=bool(authorization))
    digest = tokens.digest(token)
    if hmac.compare_digest(digest, root_token_digest):
        return Root()
    found = await store.tokens.find(digest) if tokens.is_well_formed(token) else None
    return Tenant(found.id, found.environment) if found else Anonymous(presented=True)
