"""The last commits of an environment, and their undoing: one commit that makes again what was there before."""

from __future__ import annotations

from aiohttp import web
from msgspec import Struct

from admin.auth.access import Access
from admin.auth.actors import Tenant
from admin.commits import commit_edits, environment_in, find_environment
from admin.console.forms import read_form
from admin.console.pages.environment import PAGE, reply_committed
from admin.console.rendering import show_problem
from admin.errors import Forbidden
from admin.history import read_changes, undo_of
from admin.http.context import ACTOR, CONTEXT
from admin.http.route import Route
from zones.errors import Missing
from zones.model import Environment


class UndoForm(Struct, frozen=True, forbid_unknown_fields=True):
    """What the button that undoes a commit sends."""

    revision: int
    """The revision that the commit made."""


async def post_undo(request: web.Request) -> web.Response:
    """Undo a commit, by another one."""
    form, id_ = await read_form(request, UndoForm), environment_in(request)
    entries = await request.app[CONTEXT].store.history.read(id_)
    entry = next((entry for entry in entries if entry.revision == form.revision), None)
    changes = read_changes(entry.changes) if entry else None
    if not changes:
        raise Missing(f"what revision {form.revision} has changed is not kept any more", field="revision")
    if isinstance(request[ACTOR], Tenant) and any(change.kind == "environment" for change in changes):
        raise Forbidden("this switched the environment itself, which needs the root token or an admin token")
    # The newest first: what one commit has done in an order is undone in the other.
    before = await find_environment(request)
    wanted = [undo_of(change, before) for change in reversed(changes)]

    def expect(environment: Environment) -> None:
        for change in changes:
            undo_of(change, environment)

    await commit_edits(request, wanted, expect=expect)
    return reply_committed()


ROUTES = (
    Route(
        "POST", PAGE + "/undo", post_undo, "Undo a commit", Access.INSIDE, {200: str}, body=UndoForm,
        show_problem=show_problem,
    ),
)  # fmt: skip
