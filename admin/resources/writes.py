"""From a request to a commit: what all handlers that change something inside an environment share."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from aiohttp import web

from admin.context import CONTEXT
from admin.http.inputs import environment_in
from admin.http.preconditions import read_preconditions
from store.writer import Written
from support.clock import unix_milliseconds
from zones.edits import Edit
from zones.model import Environment


async def write(
    request: web.Request, wanted: Sequence[Edit], exists: Callable[[Environment], bool] = lambda _environment: True
) -> Written:
    """Makes the edits ``wanted`` by ``request`` in one commit, under the preconditions that it states.

    ``exists`` says whether what is to be written is there already.
    """
    committer, preconditions = request.app[CONTEXT].committer, read_preconditions(request.headers)
    return await committer.edit(environment_in(request), wanted, unix_milliseconds(), preconditions, exists)
