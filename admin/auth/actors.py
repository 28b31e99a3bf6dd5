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
class Admin:
    """The holder of an admin token, who may do everything but make admin tokens."""

    id: str
    """The id of the token, which is no secret; never the token itself."""
    read_only: bool = False
    """Whether the token opens nothing that changes anything."""


@dataclass(frozen=True, slots=True)
class Tenant:
    """The holder of a token that is for one environment."""

    id: str
    """The id of the token, which is no secret; never the token itself."""
    environment: str
    """The environment that the token is for."""
    read_only: bool = False
    """Whether the token opens nothing that changes anything."""


@dataclass(frozen=True, slots=True)
class Anonymous:
    """A client without a valid token."""

    presented: bool = False
    """Whether the client sent an ``Authorization`` header, though no valid one."""
    id: str = "anonymous"
    """How the audit log names the actor."""


Actor = Root | Admin | Tenant | Anonymous


def bearer(authorization: str) -> str:
    """The token in the header ``Authorization: <authorization>`` (RFC 6750 §2.1); empty where there is none."""
    scheme, _, token = authorization.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def identify_root(authorization: str, root_token_digest: str) -> Root | Anonymous:
    """`Root` where ``authorization`` has the root token; `Anonymous` where it may have another, or has none."""
    token = bearer(authorization)
    if token and hmac.compare_digest(tokens.digest(token), root_token_digest):
        return Root()
    return Anonymous(presented=bool(authorization))


async def find(digest: str, store: Store) -> Admin | Tenant | Anonymous:
    """The actor whose token has ``digest``; `Anonymous` where there is no such token, or no longer."""
    found = await store.tokens.find(digest)
    if found is None or (found.expires is not None and found.expires <= await store.clock.milliseconds()):
        return Anonymous(presented=True)
    if not found.environment:
        return Admin(found.id, found.read_only)
    return Tenant(found.id, found.environment, found.read_only)
