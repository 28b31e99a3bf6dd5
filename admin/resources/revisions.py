"""Revisions of an environment: which hosts have programmed one."""

from __future__ import annotations

import re

from aiohttp import web
from msgspec import Struct

from admin.commits import environment_in, find_environment
from admin.http.context import CONTEXT
from admin.http.fields import Revision
from admin.http.replies import show
from zones.errors import Invalid, Missing
from zones.hosts import hosts_of

_NUMBER = re.compile("[1-9][0-9]{0,17}")


class RevisionView(Struct, frozen=True):
    """Which of the hosts that have a member of an environment have programmed one of its revisions.

    ``hosts`` have programmed it, or a newer one. ``behind`` have not yet. ``away`` have not either, but their leases
    have ended, so nothing waits for them.
    """

    environment: str
    """The id of the environment."""
    revision: Revision
    newest: Revision
    hosts: tuple[str, ...]
    """The hosts that have programmed the revision, or a newer one."""
    behind: tuple[str, ...]
    """The hosts that have not programmed it yet."""
    away: tuple[str, ...]
    """The hosts that have not programmed it, and whose leases have ended."""


async def get_revision(request: web.Request) -> web.Response:
    """Show which hosts have a revision."""
    id_, revision = environment_in(request), _revision_in(request)
    environment = await find_environment(request)
    if revision > environment.revision:
        raise Missing(f"the newest revision of {id_!r} is {environment.revision}: {revision} does not exist yet")
    store, members = request.app[CONTEXT].store, hosts_of(environment)
    acknowledged = await store.acks.read(id_)
    have = {host for host in members if acknowledged.get(host, 0) >= revision}
    behind = await store.leases.live(members - have)
    view = RevisionView(
        environment=id_,
        revision=revision,
        newest=environment.revision,
        hosts=tuple(sorted(have)),
        behind=tuple(sorted(behind)),
        away=tuple(sorted(members - have - behind)),
    )
    # No entity tag: an acknowledgement of a host changes the reply without a new revision.
    return show(request, view)


def _revision_in(request: web.Request) -> int:
    text = request.match_info["revision"]
    if not _NUMBER.fullmatch(text):
        raise Invalid(f"{text!r} is not a revision: use a whole number from 1", field="revision")
    return int(text)
