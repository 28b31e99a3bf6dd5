"""What each client may do: the access level of a route, compared with the actor that sent the request."""

from __future__ import annotations

from enum import Enum

from admin.auth.actors import Actor, Admin, Anonymous, Root, Tenant
from admin.errors import Forbidden, Unauthenticated

SEND_A_TOKEN = "send 'Authorization: Bearer TOKEN'; the root token lies in admin.token in the state directory"  # noqa: S105


class Access(Enum):
    """Which tokens open a route."""

    OPEN = "none is needed"
    ANY = "any token; the reply holds only what the token may see"
    INSIDE = "the root token, an admin token, or a token of the environment in the path"
    ROOT = "the root token, or an admin token"
    ROOT_ALONE = "the root token alone"


def authorize(actor: Actor, access: Access, environment: str | None, *, is_write: bool = False) -> None:
    """Returns if ``actor`` may use a route that has ``access``; ``environment`` is the environment in its path, if any.

    ``is_write`` says whether the route changes anything, which a token that only reads does not open.
    Raises `Unauthenticated` or `Forbidden`. The decision is made before anything is read from the store, so a refusal
    does not reveal what exists.
    """
    match actor:
        case _ if access is Access.OPEN:
            return
        case Anonymous(presented):
            problem = "the token is not valid, or no longer" if presented else "a token is needed"
            raise Unauthenticated(f"{problem}: {SEND_A_TOKEN}", presented=presented)
        case Root():
            return
        case Admin() | Tenant() if is_write and actor.read_only:
            raise Forbidden("this token only reads: use one that was not made with read_only")
        case Admin() if access is Access.ROOT_ALONE:
            raise Forbidden("this needs the root token itself: an admin token makes and ends no admin tokens")
        case Admin():
            return
        case Tenant() if access is Access.ANY:
            return
        case Tenant() if access is Access.INSIDE and environment is not None:
            authorize_environment(actor, environment)
        case Tenant():
            raise Forbidden(
                "this needs the root token or an admin token: a token of an environment opens only what is inside of it"
            )


def authorize_environment(actor: Actor, environment: str) -> None:
    """Returns if ``actor`` may read ``environment``, which need not exist. Raises `Forbidden`."""
    if isinstance(actor, Tenant) and actor.environment != environment:
        raise Forbidden(f"this token is for the environment {actor.environment!r} only: use one of that environment's")
