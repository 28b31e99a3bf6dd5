"""The admin API as one application: the routes, the middleware around them, and what they need.

The path of a request: `middleware.ORDER`, then its handler in `routes.ROUTES`, then, for a write, `commits`.
"""

from __future__ import annotations

from aiohttp import web

from admin.commits import Committer
from admin.context import CONTEXT, Context, Explain
from admin.counts import ApiCounts
from admin.http.limits import Buckets, Limits
from admin.http.middleware import ORDER
from admin.http.replies import add_headers
from admin.http.route import register
from admin.openapi import DOCUMENT, describe
from admin.resources.operations import METRICS, READINESS, Metrics, Readiness
from admin.routes import ROUTES
from store.store import Store
from zones.addresses import Platform


def make_app(
    *,
    store: Store,
    platform: Platform,
    root_token_digest: str,
    explain: Explain,
    readiness: Readiness,
    metrics: Metrics,
    limits: Limits = Limits(),  # noqa: B008 frozen
    counts: ApiCounts | None = None,
) -> web.Application:
    """The API on ``store``, with the operations endpoints beside it.

    ``root_token_digest`` is `admin.auth.tokens.digest` of the token that opens everything. ``counts``, if given, is
    where the API counts what it does.
    """
    counts = counts or ApiCounts()
    app = web.Application(middlewares=ORDER, client_max_size=limits.body_bytes)
    app[CONTEXT] = Context(
        store=store,
        committer=Committer(store, platform, counts),
        platform=platform,
        root_token_digest=root_token_digest,
        explain=explain,
        limits=limits,
        counts=counts,
        clients=Buckets(limits.rate, limits.burst, limits.clients),
        strangers=Buckets(limits.stranger_rate, limits.stranger_burst, limits.clients),
    )
    app[READINESS] = readiness
    app[METRICS] = metrics
    app[DOCUMENT] = describe(ROUTES)
    app.on_response_prepare.append(add_headers)
    register(app, ROUTES)
    return app
