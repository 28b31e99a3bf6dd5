"""How the last deploys went: each attach with the time of its steps, and how long commits take to reach hosts."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from aiohttp import web
from msgspec import Meta, Struct

from admin.commits import environment_in
from admin.http.context import CONTEXT, Context
from admin.http.fields import EnvironmentName
from admin.http.inputs import read_query
from admin.http.replies import show
from zones.names import EnvironmentId, check_environment_id


class StepView(Struct, frozen=True):
    """One step of an attach."""

    step: str
    """``record``, ``connect``, ``path`` (all hosts reach it), ``ready``, ``answer`` (all answer it) or ``lookup``."""
    begins_ms: float
    """When it began, in milliseconds from the beginning of the attach; ``connect`` and ``path`` run at once."""
    milliseconds: float | None
    """How long it took. None: it has failed, or was not finished."""
    lagging: tuple[str, ...]
    """The hosts that it has waited for in vain."""


class DeployView(Struct, frozen=True):
    """An attach that has ended."""

    environment: str
    """The environment of the instance."""
    service: str
    """Its service, by the name that it had then."""
    instance: str
    """The instance."""
    host: str
    """The host that it was attached on."""
    address: str | None
    """The address of the instance. None: it has failed before there was one."""
    began: float
    """When it began, in Unix seconds."""
    milliseconds: float
    """How long it took, in all."""
    problem: str
    """Why it has failed; empty if it has not."""
    failed: str
    """The step that has failed; empty where none has."""
    steps: tuple[StepView, ...]
    """Its steps, in the order in which they began."""


class UnheardView(Struct, frozen=True):
    """A host whose attaches are not among those that are shown."""

    host: str
    """The host."""
    reason: str
    """Why."""


class BarView(Struct, frozen=True):
    """Commits that took about as long as each other."""

    seconds: float | None
    """They took at most as long, and longer than those of the bar before. None: longer than those of all other bars."""
    commits: int
    """How many there were."""


class PropagationView(Struct, frozen=True):
    """How long commits have taken to be acknowledged, which hosts do when they reach, and answer, what is new.

    It is measured from when this control plane hears of a commit, for the hosts that have their session with it: of one
    environment its last hundred commits, of all of them since the start of the control plane.
    """

    hosts: Literal["each", "all"]
    """``all``: until the last host has acknowledged; ``each``: for each host."""
    commits: int
    """How many there were."""
    seconds: float
    """How long they have taken together."""
    bars: tuple[BarView, ...]
    """They by the seconds that they took."""


class DeploysReply(Struct, frozen=True):
    """The last deploys."""

    deploys: tuple[DeployView, ...]
    """The last attaches, the newest first."""
    unheard: tuple[UnheardView, ...]
    """The live hosts whose attaches are not known here."""
    propagation: tuple[PropagationView, ...]
    """How long commits take to reach hosts."""


class EnvironmentDeploysQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """How many to show."""

    limit: Annotated[int, Meta(ge=1, le=500, description="attaches at most")] = 50


class DeploysQuery(EnvironmentDeploysQuery, frozen=True, forbid_unknown_fields=True):
    """How many to show, and of which environment."""

    environment: EnvironmentName | None = None
    """Only those of this environment. None: of all."""


async def get_environment_deploys(request: web.Request) -> web.Response:
    """Show the last attaches of an environment."""
    query = read_query(request, EnvironmentDeploysQuery)
    return show(request, await read_deploys(request.app[CONTEXT], environment_in(request), query.limit))


async def get_deploys(request: web.Request) -> web.Response:
    """Show the last attaches of all hosts."""
    query = read_query(request, DeploysQuery)
    environment = None if query.environment is None else check_environment_id(query.environment)
    return show(request, await read_deploys(request.app[CONTEXT], environment, query.limit))


async def read_deploys(context: Context, environment: EnvironmentId | None, limit: int) -> DeploysReply:
    """The last ``limit`` attaches, of ``environment`` if one is given."""
    return msgspec.convert(await context.deploys(environment, limit), DeploysReply)
