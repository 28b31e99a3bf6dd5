"""What a request can lay its hands on: the parts that were passed in, and what was learnt about the request."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from aiohttp import web

from admin.auth.actors import Actor
from admin.commits import Committer
from admin.counts import ApiCounts
from admin.http.limits import Buckets, Limits
from store.store import Store
from zones.addresses import Platform
from zones.names import EnvironmentId, Name


class Explain(Protocol):
    """Says what a name and type would be answered with in an environment, and why, stage by stage.

    The resolver's to know, so it is passed in. Raises `zones.errors.Missing` where there is no such environment, and
    `zones.errors.Invalid` for a type that it does not know.
    """

    def __call__(self, environment: EnvironmentId, qname: Name, qtype: str) -> Awaitable[Mapping[str, Any]]: ...


@dataclass(frozen=True, slots=True)
class Context:
    """The parts that all handlers share."""

    store: Store
    committer: Committer
    platform: Platform
    root_token_digest: str
    explain: Explain
    limits: Limits
    counts: ApiCounts
    clients: Buckets  # by token
    strangers: Buckets  # by source address, for those without a valid token


CONTEXT = web.AppKey("context", Context)

ACTOR: web.RequestKey[Actor] = web.RequestKey("actor")
REVISION = web.RequestKey("revision", int)  # of the environment, once a handler knows it
