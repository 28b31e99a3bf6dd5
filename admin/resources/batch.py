"""Batches: several edits of one environment in one commit, all of them or none.

Each resource's file defines its own edits as subclasses of `BatchEdit`; `admin.routes.BATCH_EDITS` lists them. The
types of a batch's body and reply are made of that list.
"""

from __future__ import annotations

from functools import reduce
from operator import or_
from typing import Annotated, Any, ClassVar, Literal

from aiohttp import web
from msgspec import Meta, Struct, defstruct

from admin.commits import commit_edits
from admin.http.context import ROUTE
from admin.http.fields import Revision
from admin.http.inputs import read_body
from admin.http.replies import show
from admin.resources.gateways import assign_gateways
from admin.resources.placements import check_hosts, hosts_away
from zones.edits import Edit
from zones.errors import ZonesError
from zones.model import Environment
from zones.placement import HostsAway

MAX_EDITS = 1000  # of one batch: the store and the zone take a commit as a whole, and other writers wait for it


class BatchEdit(Struct, frozen=True, forbid_unknown_fields=True, tag_field="op"):
    """One edit as a batch holds it: the keys that a PUT or DELETE has in its path, and the fields of the PUT's body.

    Its tag is a verb and a noun, as in ``put-service``. The noun names the field of the result that shows the view.
    """

    view_type: ClassVar[type[Struct] | None] = None
    """The type of what `view` returns; None for an edit that leaves nothing to show."""

    def edit(self) -> Edit:
        """The change of the environment. Raises `zones.errors.Invalid`."""
        raise NotImplementedError

    def view(self, _environment: Environment, _away: HostsAway) -> Struct | None:
        """What was put, as it is in the environment after the batch; None if a later edit removed it again.

        What is on one of the hosts ``_away`` is shown as such.
        """
        return None


def batch_body(edits: tuple[type[BatchEdit], ...]) -> type[Struct]:
    """The type of a batch's body, in which each edit is one of ``edits``."""
    edit: Any = reduce(or_, edits)
    edit_list: Any = Annotated[tuple[edit, ...], Meta(min_length=1, max_length=MAX_EDITS)]
    return defstruct(
        "BatchBody",
        [("edits", Annotated[edit_list, Meta(description="the edits, in their order")])],
        namespace={"__doc__": "Several edits, made in this order in one commit: all of them or none."},
        frozen=True,
        forbid_unknown_fields=True,
    )


def batch_reply(edits: tuple[type[BatchEdit], ...]) -> type[Struct]:
    """The type of the reply to a batch, in which each edit is one of ``edits``."""
    views = {_noun(edit): edit.view_type for edit in edits if edit.view_type}
    result: Any = defstruct(
        "BatchResult",
        [
            ("op", Annotated[Literal[tuple(map(_op, edits))], Meta(description="the edit that this is the result of")]),
            *(
                (noun, Annotated[view | None, Meta(description=f"the {noun} that was put, as it is now")], None)
                for noun, view in views.items()
            ),
        ],
        namespace={"__doc__": "What one edit put, unless a later edit of the same batch removed it again."},
        frozen=True,
    )
    return defstruct(
        "BatchReply",
        [
            ("results", Annotated[tuple[result, ...], Meta(description="one for each edit")]),
            ("revision", Revision),
        ],
        namespace={"__doc__": "The results in the order of the edits, all at one revision."},
        frozen=True,
    )


async def post_batch(request: web.Request) -> web.Response:
    """Make several edits in one commit."""
    route = request[ROUTE]
    assert route is not None
    batch: tuple[BatchEdit, ...] = (await read_body(request, route.body)).edits
    try:
        wanted = await assign_gateways(request, [edit.edit() for edit in batch])
        await check_hosts(request, wanted)
        committed = await commit_edits(request, wanted)
    except ZonesError as error:
        if error.edit is not None:
            error.field = f"edits[{error.edit}].{error.field}".removesuffix(".")
        raise
    environment = committed.environment
    away = await hosts_away(request, environment)
    results = [_result(edit, environment, away) for edit in batch]
    return show(request, {"results": results, "revision": environment.revision}, environment, away=away)


def _result(edit: BatchEdit, environment: Environment, away: HostsAway) -> dict[str, Any]:
    view = edit.view(environment, away)
    return {"op": _op(type(edit))} | ({} if view is None else {_noun(type(edit)): view})


def _op(edit: type[BatchEdit]) -> str:
    return str(edit.__struct_config__.tag)


def _noun(edit: type[BatchEdit]) -> str:
    return _op(edit).partition("-")[2]
