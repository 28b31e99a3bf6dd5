"""The quota of an environment: what it may hold, what it holds, and what was set for it alone."""

from __future__ import annotations

from typing import Annotated

from aiohttp import web
from msgspec import UNSET, Meta, Struct, UnsetType
from msgspec.structs import asdict

from admin.commits import environment_in, find_environment
from admin.http.context import CONTEXT
from admin.http.inputs import read_body
from admin.http.replies import show
from store.quotas import merged
from zones.model import Environment
from zones.quota import Quota, limits, used

Limit = Annotated[int, Meta(ge=0, le=10**9)] | UnsetType | None


class QuotaLine(Struct, frozen=True):
    """How much of one kind."""

    limit: int
    """How much there may be."""
    used: int
    """How much there is."""
    is_default: bool
    """Whether the limit is the control plane's, for all environments for which none was set."""


class QuotaView(Struct, frozen=True):
    """The quota of an environment."""

    services: QuotaLine
    """Services."""
    instances: QuotaLine
    """Instances, of all services together."""
    records: QuotaLine
    """Custom record sets."""
    peers: QuotaLine
    """External peers."""
    tokens: QuotaLine
    """Tokens."""
    document: QuotaLine
    """Octets of the environment's document."""


class QuotaBody(Struct, frozen=True, forbid_unknown_fields=True):
    """Limits as they should be. What is left out stays as it is; null is the default."""

    services: Limit = UNSET
    """Services."""
    instances: Limit = UNSET
    """Instances, of all services together."""
    records: Limit = UNSET
    """Custom record sets."""
    peers: Limit = UNSET
    """External peers."""
    tokens: Limit = UNSET
    """Tokens."""
    document: Limit = UNSET
    """Octets of the environment's document, of which no more than 16 MiB are ever taken."""


async def get_quota(request: web.Request) -> web.Response:
    """Show what an environment may hold, and what it holds."""
    return await _show(request, await find_environment(request))


async def put_quota(request: web.Request) -> web.Response:
    """Set what an environment may hold."""
    body, environment = await read_body(request, QuotaBody), await find_environment(request)
    quotas = request.app[CONTEXT].store.quotas
    given = {kind: limit for kind, limit in asdict(body).items() if limit is not UNSET}
    wanted = {**await quotas.find(environment.id), **given}
    await quotas.set(environment.id, {kind: limit for kind, limit in wanted.items() if limit is not None})
    return await _show(request, environment)


async def quota_of(request: web.Request) -> Quota:
    """The quota of the environment in the path of ``request``."""
    context = request.app[CONTEXT]
    return merged(context.writer.quota, await context.store.quotas.find(environment_in(request)))


async def _show(request: web.Request, environment: Environment) -> web.Response:
    context = request.app[CONTEXT]
    set_here = await context.store.quotas.find(environment.id)
    tokens = [token for token in (await context.store.tokens.read()).values() if token.environment == environment.id]
    size = (await context.store.environments.stored([environment.id], most=0))[environment.id].size
    present = used(environment, len(tokens), size)
    lines = {
        kind: QuotaLine(limit, present[kind], kind not in set_here)
        for kind, limit in limits(merged(context.writer.quota, set_here)).items()
    }
    return show(request, QuotaView(**lines))
