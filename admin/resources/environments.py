"""Handlers of environments: made, switched, shown, listed, deleted."""

from __future__ import annotations

from aiohttp import web

from admin.auth.actors import Tenant
from admin.commits import require_environment
from admin.context import ACTOR, CONTEXT
from admin.http.inputs import environment_in, read_body, read_query
from admin.http.pages import EnvironmentPage, PageQuery, cut_page
from admin.http.preconditions import read_preconditions
from admin.http.replies import show, show_nothing
from admin.resources.bodies import EnvironmentBody
from admin.resources.views import EnvironmentSummary, summarize, view_environment
from support.clock import unix_milliseconds
from zones import document
from zones.errors import Invalid
from zones.model import Environment
from zones.names import EnvironmentId

READ_AT_ONCE = 100  # documents in one reply of the store, each of up to some megabytes


async def put_environment(request: web.Request) -> web.Response:
    """Create an environment or change it."""
    id_, preconditions = environment_in(request), read_preconditions(request.headers)
    body = await read_body(request, EnvironmentBody)
    committed = await request.app[CONTEXT].committer.put_environment(
        id_, body.edits(), unix_milliseconds(), preconditions
    )
    after = committed.after
    return show(request, summarize(after), after.revision, created=committed.before is None)


async def get_environment(request: web.Request) -> web.Response:
    """Show an environment with all that is in it."""
    environment = await find_environment(request)
    return show(request, view_environment(environment), environment.revision)


async def delete_environment(request: web.Request) -> web.Response:
    """Delete an environment with all that is in it, and its tokens."""
    id_, preconditions = environment_in(request), read_preconditions(request.headers)
    revision = await request.app[CONTEXT].committer.delete_environment(id_, preconditions)
    return show_nothing(request, revision)


async def list_environments(request: web.Request) -> web.Response:
    """List the environments that the token may see."""
    query, actor, store = read_query(request, PageQuery), request[ACTOR], request.app[CONTEXT].store
    if isinstance(actor, Tenant):
        ids = [EnvironmentId(actor.environment)]
    else:
        ids = [id_ for id_, entry in (await store.environments.index()).items() if entry.digest is not None]
    page, following = cut_page(ids, str, query)
    summaries: list[EnvironmentSummary] = []
    unreadable: list[str] = []
    for start in range(0, len(page), READ_AT_ONCE):
        for id_, (_entry, read) in (await store.environments.documents(page[start : start + READ_AT_ONCE])).items():
            # One may have been deleted since the index was read; then there is nothing to tell of it.
            if read is not None:
                try:
                    summaries.append(summarize(document.decode(read)))
                except Invalid:
                    unreadable.append(id_)
    return show(request, EnvironmentPage(tuple(summaries), tuple(unreadable), following))


async def find_environment(request: web.Request) -> Environment:
    """The environment in the path of ``request``. Raises `zones.errors.Missing`."""
    id_ = environment_in(request)
    _, environment = await request.app[CONTEXT].store.environments.read(id_)
    return require_environment(id_, environment)
