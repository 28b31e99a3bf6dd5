"""The guard against mass deletion: what is held because it has vanished, and the word that it is deleted."""

from __future__ import annotations

import logging
from typing import Annotated

from aiohttp import web
from msgspec import Meta, Struct

from admin.http.context import CONTEXT, HeldView
from admin.http.replies import show
from store.mending import finish_deletions

FINISH_SECONDS = 5.0  # of the ten that a request may take; what is left then is removed by the next confirmation
SHOWN = 5  # environments that a log line names

log = logging.getLogger(__name__)


class GuardReply(Struct, frozen=True):
    """What this process holds; null where it follows no environments, as ``interlock admin`` does not."""

    epoch: Annotated[str | None, Meta(description="the data set that the store holds now")]
    confirmation: Annotated[str | None, Meta(description="the newest confirmation")]
    held: tuple[HeldView, ...] | None
    """What this process holds back. None: it follows no environments."""


async def get_guard(request: web.Request) -> web.Response:
    """Show what is held because it has vanished from the store."""
    store = request.app[CONTEXT].store
    confirmation, position = await store.guard.read(), await store.changes.position()
    return show(request, GuardReply(position.epoch, confirmation.change if confirmation else None, _held(request)))


async def post_confirm(request: web.Request) -> web.Response:
    """Confirm that all that the store lacks is deleted. The reply shows what this process held until now."""
    store, held = request.app[CONTEXT].store, _held(request)
    confirmation = await store.guard.confirm()
    if removed := await finish_deletions(store, FINISH_SECONDS):
        log.warning("documents_removed", extra={"number": len(removed), "of": removed[:SHOWN]})
    position = await store.changes.position()
    return show(request, GuardReply(position.epoch, confirmation.change, held))


def _held(request: web.Request) -> tuple[HeldView, ...] | None:
    held = request.app[CONTEXT].held
    return None if held is None else tuple(held())
