"""The handler of revisions: how far one has come."""

from __future__ import annotations

import re

from aiohttp import web
from msgspec import Struct

from admin.context import CONTEXT
from admin.environments import find_environment
from admin.inputs import environment_in
from admin.replies import show
from admin.views import Revision
from zones.errors import Invalid, Missing

_NUMBER = re.compile("[1-9][0-9]{0,17}")


class RevisionView(Struct, frozen=True):
    """Which hosts have programmed a revision of an environment, or a newer one, and which have an older one still."""

    environment: str
    revision: Revision
    newest: Revision
    hosts: tuple[str, ...]
    behind: tuple[str, ...]


async def get_revision(request: web.Request) -> web.Response:
    """Show which hosts have a revision."""
    id_, revision = environment_in(request), _revision_in(request)
    environment = await find_environment(request)
    if revision > environment.revision:
        raise Missing(f"the newest revision of {id_!r} is {environment.revision}: {revision} is yet to be made")
    acknowledged = await request.app[CONTEXT].store.acknowledgements(id_)
    view = RevisionView(
        environment=id_,
        revision=revision,
        newest=environment.revision,
        hosts=tuple(sorted(host for host, theirs in acknowledged.items() if theirs >= revision)),
        behind=tuple(sorted(host for host, theirs in acknowledged.items() if theirs < revision)),
    )
    # No entity tag: hosts acknowledge without a new revision.
    return show(request, view)


def _revision_in(request: web.Request) -> int:
    text = request.match_info["revision"]
    if not _NUMBER.fullmatch(text):
        raise Invalid(f"{text!r} is not a revision: use a whole number from 1", field="revision")
    return int(text)
