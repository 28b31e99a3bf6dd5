"""How a request reads and changes an environment: one commit, under the preconditions that the client states.

    commit_edits         changes what is inside of an environment that exists
    commit_environment   creates an environment, or changes it
    commit_deletion      deletes an environment and its tokens

`store.writer` makes the commit, and repeats it where another writer was first. All functions raise
`store.errors.Unavailable`, and those that commit also `store.errors.RevisionConflict` after too many attempts.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv6Network

from aiohttp import web
from msgspec.structs import replace

from admin.allowed_hosts import read_allowed_hosts
from admin.errors import MassWithdrawal
from admin.history import CREATED, Change, changes_of, written_changes
from admin.http.context import ACTOR, CONTEXT, ROUTE
from admin.http.fields import ConfirmQuery
from admin.http.inputs import read_query
from admin.http.preconditions import read_preconditions
from store.errors import Corrupt, Unavailable
from store.history import Entry
from zones import edits
from zones.edits import Edit
from zones.model import Environment
from zones.names import EnvironmentId, check_environment_id
from zones.withdrawal import loss

NETWORK_BITS = 32  # of an environment's network, drawn at random (RFC 4193 §3.2.2)


@dataclass(frozen=True, slots=True)
class Committed:
    """What a request has committed."""

    environment: Environment
    """The environment after the commit; as it was before, at the same revision, if the request changed nothing."""
    created: bool
    """Whether what the request wrote did not exist before."""


def environment_in(request: web.Request) -> EnvironmentId:
    """The id of the environment in the path of ``request``. Raises `zones.errors.Invalid`."""
    return check_environment_id(request.match_info["environment"])


async def find_environment(request: web.Request) -> Environment:
    """The environment in the path of ``request``. Raises `zones.errors.Missing`."""
    id_ = environment_in(request)
    _, environment = await request.app[CONTEXT].store.environments.read(id_)
    return _require(id_, environment)


async def commit_edits(
    request: web.Request,
    wanted: Sequence[Edit],
    exists: Callable[[Environment], bool] = lambda _environment: True,
    expect: Callable[[Environment], object] = lambda _environment: None,
) -> Committed:
    """Applies the edits ``wanted`` to the environment in the path of ``request``, all in one commit.

    ``exists`` says whether an environment has what the request writes. ``expect`` is called with the environment before
    the commit; what it raises ends the write. Raises `zones.errors.ZonesError`,
    `admin.errors.Malformed`, `admin.errors.PreconditionFailed`, `admin.errors.Forbidden` if a host is not one that the
    request may choose, and `admin.errors.MassWithdrawal` if very many names would be lost and the request does not
    confirm that.
    """
    id_, preconditions = environment_in(request), read_preconditions(request.headers)
    now = await request.app[CONTEXT].store.clock.milliseconds()
    share, is_confirmed = request.app[CONTEXT].name_share, _is_confirmed(request)
    apex, allowed = request.app[CONTEXT].platform.apex, await read_allowed_hosts(request, wanted)

    def change(_revision: int, environment: Environment | None) -> Environment:
        before = _require(id_, environment)
        allowed.check(before, wanted)
        after = edits.apply(before, wanted, now, apex)
        # Last, so that a precondition does not hide another reason to refuse (RFC 9110 §13.2.1).
        preconditions.check(before, exists(before))
        expect(before)
        lost = loss(before, after)
        if lost.is_mass(share) and not is_confirmed:
            raise MassWithdrawal(
                f"it deletes {lost.lost} of the {lost.of} names of {id_!r}: if that is meant, send it again with"
                " ?confirm=withdrawal"
            )
        return after

    written = await request.app[CONTEXT].writer.change(id_, change)
    if written.before is not None and written.after is not written.before:
        await _note(request, written.after, changes_of(wanted, written.before, written.after), now)
    return Committed(written.after, created=written.before is None or not exists(written.before))


async def commit_environment(
    request: web.Request, wanted: Sequence[Edit], *, replace_damaged: bool = False
) -> Committed:
    """Creates the environment in the path of ``request`` if it does not exist, and applies the edits ``wanted`` to it.

    With ``replace_damaged``, one that is damaged in the store is replaced by an empty one. Raises as `commit_edits`
    does, and `store.errors.NetworkTaken` if no attempt found a free network.
    """
    id_, preconditions, context = environment_in(request), read_preconditions(request.headers), request.app[CONTEXT]
    now = await context.store.clock.milliseconds()

    def change(revision: int, environment: Environment | None) -> Environment:
        preconditions.check(environment, environment is not None)
        return make(revision + 1) if environment is None else edits.apply(environment, wanted, now)

    def make(revision: int, network: IPv6Network | None = None) -> Environment:
        drawn = context.platform.environment_network(secrets.randbelow((1 << NETWORK_BITS) - 1) + 1)
        new = Environment(id=id_, network=network or drawn, revision=revision)
        return replace(edits.apply(new, wanted, now), revision=revision)

    try:
        written = await context.writer.change(id_, change)
    except Corrupt:
        if not replace_damaged:
            raise
        preconditions.check_damaged()
        if made := await context.writer.replace_damaged(id_, make):
            return Committed(made, created=False)
        written = await context.writer.change(id_, change)  # somebody has mended it just now
    if written.before is None:
        await _note(request, written.after, [CREATED], now)
    elif written.after is not written.before:
        await _note(request, written.after, changes_of(wanted, written.before, written.after), now)
    return Committed(written.after, created=written.before is None)


async def commit_deletion(request: web.Request) -> int:
    """Deletes the environment in the path of ``request``, and all its tokens; returns the revision of the deletion.

    Raises `zones.errors.Missing`, `admin.errors.Malformed` and `admin.errors.PreconditionFailed`.
    """
    id_, preconditions = environment_in(request), read_preconditions(request.headers)

    def check(environment: Environment | None) -> None:
        if environment is None:
            preconditions.check_damaged()
        else:
            preconditions.check(environment, exists=True)

    revision = await request.app[CONTEXT].writer.delete(id_, check)
    with suppress(Unavailable):
        await request.app[CONTEXT].store.history.remove(id_)
    return revision


async def _note(request: web.Request, environment: Environment, changes: Sequence[Change], now: int) -> None:
    """Adds the commit that ``request`` has made to those that people can look at. The commit stands without it too."""
    entry = Entry(environment.revision, now, request[ACTOR].id, written_changes(changes))
    with suppress(Unavailable):
        await request.app[CONTEXT].store.history.add(environment.id, entry)


def _is_confirmed(request: web.Request) -> bool:
    route = request[ROUTE]
    return route is not None and route.query is ConfirmQuery and read_query(request, ConfirmQuery).confirm is not None


def _require(id_: EnvironmentId, environment: Environment | None) -> Environment:
    return edits.must_exist(id_, environment, advice=f"create it with PUT /v1/environments/{id_}")
