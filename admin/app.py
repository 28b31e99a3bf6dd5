"""The admin API as one application: the routes, the middleware around them, and the parts that they use.

A request passes `middleware.ORDER`, then its handler in `routes.ROUTES`; a handler that writes calls `commits`.
"""

from __future__ import annotations

from aiohttp import web

from admin.auth.signins import SignIns
from admin.console.context import Console
from admin.console.routes import ROUTES as CONSOLE_ROUTES
from admin.console.routes import add_console
from admin.counts import ApiCounts
from admin.http.context import CONTEXT, Context, Deploys, Diagnose, Explain, HeldNow, ShowMesh
from admin.http.identity import Identifier
from admin.http.limits import Buckets, Limits
from admin.http.middleware import ORDER
from admin.http.replies import add_headers
from admin.http.route import register
from admin.http.uses import TokenUses
from admin.lookups.hub import LookupHub
from admin.openapi import DOCUMENT, describe
from admin.resources.operations import METRICS, READINESS, Metrics, Readiness
from admin.routes import PATH_PARAMETERS, ROUTES
from store.store import Store
from store.writer import Writer
from zones.addresses import Platform
from zones.quota import Quota


def make_app(
    *,
    store: Store,
    platform: Platform,
    root_token_digest: str,
    explain: Explain,
    diagnose: Diagnose,
    deploys: Deploys,
    mesh: ShowMesh,
    readiness: Readiness,
    metrics: Metrics,
    limits: Limits = Limits(),  # noqa: B008 frozen
    counts: ApiCounts | None = None,
    quota: Quota = Quota(),  # noqa: B008 frozen
    name_share: float = 1.0,
    held: HeldNow | None = None,
    keep_deleted: int = 0,
    lookups: LookupHub | None = None,
    console: Console | None = None,
) -> web.Application:
    """The API on ``store``, with the operations endpoints beside it.

    ``root_token_digest`` is the digest of the root token, by `admin.auth.tokens.digest`. The API counts what it does in
    ``counts``, if given. ``quota`` is that of environments for which none was set. A write that deletes more than
    ``name_share`` of an environment's names needs a confirmation.
    A deleted environment is kept for ``keep_deleted`` seconds.
    ``lookups`` passes on look-ups; without it, none come.
    ``console`` is what the console shows; None: there is no console.
    ``held`` gives what the watcher of this process holds back, None where it has no watcher.
    """
    counts, hub = counts or ApiCounts(), lookups or LookupHub()
    app = web.Application(middlewares=ORDER, client_max_size=limits.body_bytes)
    sign_ins = SignIns(store, root_token_digest)
    strangers = Buckets(limits.anonymous_rate, limits.anonymous_burst, limits.tracked_clients)
    app[CONTEXT] = Context(
        store=store,
        writer=Writer(store, counts, quota=quota, keep=keep_deleted),
        platform=platform,
        identifier=Identifier(store, root_token_digest, strangers, sign_ins),
        sign_ins=sign_ins,
        uses=TokenUses(store),
        explain=explain,
        diagnose=diagnose,
        deploys=deploys,
        mesh=mesh,
        lookups=hub,
        limits=limits,
        counts=counts,
        name_share=name_share,
        held=held,
        token_buckets=Buckets(limits.rate, limits.burst, limits.tracked_clients),
        anonymous_buckets=strangers,
    )
    app[READINESS] = readiness
    app[METRICS] = metrics
    app[DOCUMENT] = describe(ROUTES, PATH_PARAMETERS)
    app.on_response_prepare.append(add_headers)
    if console:
        add_console(app, console)
    register(app, (*ROUTES, *CONSOLE_ROUTES) if console else ROUTES)

    async def end_streams(_: web.Application) -> None:
        hub.close()  # a process that ends waits for the requests that are under way

    app.on_shutdown.append(end_streams)
    return app
