"""What handlers and middleware reach through a request: the shared parts of the API, and facts about the request."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Protocol

from aiohttp import web
from msgspec import Meta, Struct

from admin.auth.actors import Actor
from admin.auth.signins import SignIns
from admin.counts import ApiCounts
from admin.http.identity import Identifier
from admin.http.limits import Buckets, Limits
from admin.http.route import Route
from admin.http.uses import TokenUses
from admin.lookups.hub import LookupHub
from store.store import Store
from store.writer import Writer
from zones.addresses import Platform
from zones.names import EnvironmentId, Name


class Diagnose(Protocol):
    """Says what is wrong with the platform, an environment or a name, and what to mend first.

    ``is_whole`` says whether whoever asks may hear of the store and of all hosts. The composition root passes it in.
    Raises `zones.errors.Invalid` for what is no name.
    """

    def __call__(
        self,
        environment: EnvironmentId | None,
        name: str | None,
        source: str | None,
        host: str | None = None,
        *,
        is_whole: bool,
    ) -> Awaitable[Mapping[str, Any]]: ...


class Explain(Protocol):
    """Explains, stage by stage, what the resolver answers to a name and type in an environment, or to one client.

    The resolver has this knowledge, and ``admin`` does not import it, so the composition root passes the function in.
    Raises `zones.errors.Missing` if the environment does not exist, and `zones.errors.Invalid` for an unknown type.
    """

    def __call__(
        self, environment: EnvironmentId | None, qname: Name, qtype: str, source: str | None = None, *, is_whole: bool
    ) -> Awaitable[Mapping[str, Any]]: ...


class Deploys(Protocol):
    """Gives the last attaches, of an environment if one is given, and how long commits take to reach hosts.

    The agents have this knowledge, and ``admin`` does not import them, so the composition root passes the function in.
    """

    def __call__(self, environment: EnvironmentId | None, number: int) -> Awaitable[Mapping[str, Any]]: ...


class ShowMesh(Protocol):
    """Gives the hosts, and their links as their agents see them. The composition root passes it in."""

    def __call__(self) -> Awaitable[Mapping[str, Any]]: ...


class HeldView(Struct, frozen=True):
    """What has vanished from the store and is served on: the environments or hosts in ``names``."""

    kind: str
    """What is held back: ``data_set``, ``environments``, ``names`` or ``hosts``."""
    names: tuple[str, ...]
    """The environments or hosts that are served on."""
    reason: str
    """What has vanished, in one sentence."""
    seconds: Annotated[float, Meta(description="for how long it has been held")]


HeldNow = Callable[[], Sequence[HeldView]]
"""Gives what the watcher of this process holds back now.

The watcher has this knowledge, and ``admin`` does not import it, so the composition root passes the function in.
"""


@dataclass(frozen=True, slots=True)
class Context:
    """The parts that all handlers share."""

    store: Store
    """Where environments, hosts and tokens are read, and hosts and tokens are written."""
    writer: Writer
    """Commits changes of environments to ``store``."""
    platform: Platform
    """The address plan and the name of the zone."""
    identifier: Identifier
    """Finds out who sent a request."""
    sign_ins: SignIns
    """Begins and ends sign-ins to the console."""
    uses: TokenUses
    """Notes when each token was used last."""
    explain: Explain
    """Answers ``GET /v1/explain``."""
    diagnose: Diagnose
    """Answers ``GET /v1/doctor``."""
    deploys: Deploys
    """Answers ``GET /v1/deploys``."""
    mesh: ShowMesh
    """Answers ``GET /v1/mesh``."""
    lookups: LookupHub
    """Passes look-ups to those who watch."""
    limits: Limits
    """Sizes and times that one request may take."""
    counts: ApiCounts
    """Where the API counts what it does."""
    name_share: float
    """The share of an environment's names that one write may delete without a confirmation."""
    held: HeldNow | None
    """Gives what the watcher of this process holds back; None where the process has no watcher."""
    token_buckets: Buckets
    """The rate limit of clients with a valid token: a bucket for each token id."""
    anonymous_buckets: Buckets
    """The rate limit of anonymous clients: a bucket for each source network."""


CONTEXT = web.AppKey("context", Context)

ROUTE: web.RequestKey[Route | None] = web.RequestKey("route")
"""The route of the request; None if the API does not have its path and method. Set by the middleware `identify`."""
ACTOR: web.RequestKey[Actor] = web.RequestKey("actor")
"""The client that sent the request; set by the middleware `identify`."""
COUNTED: web.RequestKey[bool] = web.RequestKey("counted")
"""Whether the request was counted already as one without a valid token; set by the middleware `identify`."""
REVISION = web.RequestKey("revision", int)
"""The revision of the environment that the reply is about; set once a handler knows it, for the audit log."""
