"""The handler of revisions: how far one has come."""

from __future__ import annotations

import re

from aiohttp import web
from msgspec import Struct

from admin.context import CONTEXT
from admin.http.inputs import environment_in
from admin.http.replies import show
from admin.resources.environments import find_environment
from admin.resources.views import Revision
from zones.errors import Invalid, Missing
from zones.hosts import hosts_of

_NUMBER = re.compile("[1-9][0-9]{0,17}")


class RevisionView(Struct, frozen=True):
    """How far a revision of an environment has come among the hosts that have a member of it.

    ``hosts`` have programmed it, or a newer one. ``behind`` have not yet. Those ``away`` have not either, and nobody
    waits for them: their leases have ended.
    """

    environment: str
    revision: Revision
    newest: Revision
    hosts: tuple[str, ...]
    behind: tuple[str, ...]
    away: tuple[str, ...]


async def get_revision(request: web.Request) -> web.Response:
    """Show which hosts have a revision."""
    id_, revision = environment_in(request), _revision_in(request)
    environment = await find_environment(request)
    if revision > environment.revision:
        raise Missing(f"the newest revision of {id_!r} is {environment.revision}: {revision} is yet to be made")
    store, members = request.app[CONTEXT].store, hosts_of(environment)
    acknowledged = await store.acks.read(id_)
    have = {host for host in members if acknowledged.get(host, 0) >= revision}
    behind = await store.hosts.live(members - have)
    view = RevisionView(
        environment=id_,
        revision=revision,
        newest=environment.revision,
        hosts=tuple(sorted(have)),
        behind=tuple(sorted(behind)),
        away=tuple(sorted(members - have - behind)),
    )
    # No entity tag: hosts acknowledge without a new revision.
    return show(request, view)


def _revision_in(request: web.Request) -> int:
    text = request.match_info["revision"]
    if not _NUMBER.fullmatch(text):
        raise Invalid(f"{text!r} is not a revision: use a whole number from 1", field="revision")
    return int(text)
