"""The last deploys, each with its steps as a waterfall, and how long commits take to reach hosts, as a histogram."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from aiohttp import web
from msgspec import Meta, Struct

from admin.auth.access import Access
from admin.console.pages.log import environment_of
from admin.console.rendering import show_page, show_problem
from admin.http.context import CONTEXT
from admin.http.inputs import read_query
from admin.http.route import Route
from admin.resources.deploys import DeployView, PropagationView, read_deploys

PAGE = "/console/deploys"
SHOWN = 40  # attaches

STEPS: Mapping[str, str] = {
    "record": "the instance is committed, and has its address",
    "connect": "link, address, routes, resolv.conf: its own host reaches it",
    "path": "every live host of the environment reaches it",
    "ready": "the instance is committed as ready",
    "answer": "every live host answers its name",
    "lookup": "A and AAAA of its names, from inside",
}


class DeploysPageQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """Which deploys to show."""

    environment: Annotated[str, Meta(max_length=63)] = ""
    """The environment; empty: all."""


@dataclass(frozen=True, slots=True)
class Bar:
    """One step in the waterfall, in parts of a thousand of the longest attach that is shown."""

    step: str
    """The step."""
    x: float
    """Where it begins."""
    width: float
    """How long it took."""
    y: int
    """The line that it is on: two steps run at once."""
    text: str
    """What it was, and how long it took."""
    is_bad: bool
    """Whether it has failed, or has waited for hosts in vain."""


@dataclass(frozen=True, slots=True)
class Waterfall:
    """An attach, and its steps as bars."""

    deploy: DeployView
    """The attach."""
    bars: Sequence[Bar]
    """Its steps."""
    lagging: Sequence[str]
    """What was waited for in vain, a sentence each."""


async def get_deploys(request: web.Request) -> web.Response:
    """Show the last deploys."""
    query = read_query(request, DeploysPageQuery)
    environment = environment_of(request, query.environment)
    found = await read_deploys(request.app[CONTEXT], environment, SHOWN)
    longest = max((one.milliseconds for one in found.deploys), default=0.0) or 1.0
    return show_page(
        request,
        "deploys.html",
        query=query,
        environment=environment or "",
        found=found,
        waterfalls=[draw(one, longest) for one in found.deploys],
        longest=longest,
        histograms=[histogram(one) for one in found.propagation],
        steps=STEPS,
    )


def draw(deploy: DeployView, longest: float) -> Waterfall:
    """The waterfall of ``deploy``, as wide as ``longest`` milliseconds."""
    scale, bars, lagging = 1000 / longest, [], []
    for step in deploy.steps:
        is_open = step.milliseconds is None
        took = deploy.milliseconds - step.begins_ms if step.milliseconds is None else step.milliseconds
        text = f"{step.step}: {'not finished' if is_open else f'{took:.1f} ms'}, from {step.begins_ms:.1f} ms on"
        is_bad = is_open or bool(step.lagging)
        y = 1 if step.step == "connect" else 0
        bars.append(Bar(step.step, step.begins_ms * scale, max(2.0, took * scale), y, text, is_bad))
        if step.lagging:
            lagging.append(f"{step.step}: {', '.join(step.lagging)} did not acknowledge in time")
    return Waterfall(deploy, bars, lagging)


def histogram(view: PropagationView) -> dict[str, Any]:
    """What the template is given of ``view``: its bars, as high as the highest is 100, and what they say in words."""
    most = max((bar.commits for bar in view.bars), default=0) or 1
    bars, before = [], 0.0
    for bar in view.bars:
        label = f"up to {in_short(bar.seconds)}" if bar.seconds is not None else f"over {in_short(before)}"
        bars.append({"label": label, "commits": bar.commits, "height": bar.commits * 100 / most})
        before = bar.seconds or before
    middle = next((one["label"] for one in _until(bars, view.commits / 2)), "") if view.commits else ""
    mean = view.seconds / view.commits if view.commits else 0.0
    return {"hosts": view.hosts, "commits": view.commits, "bars": bars, "middle": middle, "mean": in_short(mean)}


def in_short(seconds: float) -> str:
    """``seconds`` in a few characters."""
    return f"{seconds * 1000:g} ms" if seconds < 1 else f"{seconds:g} s"


def _until(bars: Sequence[dict[str, Any]], number: float) -> Sequence[dict[str, Any]]:
    """The bar that has the commit of that ``number``, and those after it."""
    seen = 0
    for index, bar in enumerate(bars):
        seen += bar["commits"]
        if seen >= number:
            return bars[index:]
    return ()


ROUTES = (
    Route(
        "GET", PAGE, get_deploys, "Show the last deploys", Access.ANY, {200: str}, query=DeploysPageQuery,
        show_problem=show_problem,
    ),
)  # fmt: skip
