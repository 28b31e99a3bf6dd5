"""An environment: its services with their instances, its records, its peers, and who has changed what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from aiohttp import web
from msgspec import Meta, Struct

from admin.auth.access import Access
from admin.commits import find_environment
from admin.console.context import CONSOLE
from admin.console.rendering import SECURITY, show_page, show_part, show_problem
from admin.history import Change, read_changes
from admin.http.context import CONTEXT
from admin.http.inputs import read_query
from admin.http.pages import PageQuery, cut_page
from admin.http.route import Route
from admin.resources.placements import hosts_away
from store.history import Entry
from zones.model import Environment, Instance, Port, RecordSet, Service, State
from zones.names import Name
from zones.placement import HostsAway, placement_of, why_not_answered
from zones.records import RECORD_TYPES, RecordType

PAGE = "/console/environments/{environment}"

CARDS = 24  # services on one page
ROWS = 10  # instances in a card; a service that is chosen alone shows `ROWS_ALONE`
ROWS_ALONE = 500
RECORDS = 100  # record sets on one page; a search finds the others
PEERS = 100
COMMITS = 20

# The reply to a change: the page closes the form that sent it, and has what it shows made anew.
COMMITTED = {"HX-Reswap": "none", "HX-Trigger": "committed"}


class EnvironmentQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """What of the environment to show."""

    q: Annotated[str, Meta(max_length=100)] = ""
    """A part of the name of a service, a record or a peer."""
    after: str = ""
    """The last service of the page before."""
    service: str = ""
    """The one service to show, with many more instances."""


@dataclass(frozen=True, slots=True)
class InstanceRow:
    """An instance, as a card shows it."""

    id: str
    """Its id."""
    instance: Instance
    """The instance."""
    placement: str
    """Whether there is a path to it."""
    why: str
    """Why it is not answered; empty if it is."""
    since: float | None
    """Since when it is as it is, in Unix seconds; None: since before this process looked."""


@dataclass(frozen=True, slots=True)
class Card:
    """A service, as it is shown."""

    name: str
    """Its name."""
    qname: str
    """The name under which clients ask for it."""
    ports: Sequence[Port]
    """Its ports."""
    former_names: Mapping[str, int]
    """Its names from before a rename, and until when they are answered, in Unix milliseconds."""
    rows: Sequence[InstanceRow]
    """Its instances, as many as are shown."""
    instances: int
    """How many it has."""
    states: Mapping[str, int]
    """How many of them are in each state."""


async def get_environment_page(request: web.Request) -> web.Response:
    """Show an environment."""
    query = read_query(request, EnvironmentQuery)
    environment = await find_environment(request)
    values = await parts_of(request, environment, query)
    return show_page(request, "environment.html", types=RECORD_TYPES, **values)


async def get_environment_parts(request: web.Request) -> web.Response:
    """Show what is in an environment, for a page that is open."""
    query = read_query(request, EnvironmentQuery)
    environment = await find_environment(request)
    return show_part(request, "environment_parts.html", **await parts_of(request, environment, query))


def reply_committed() -> web.Response:
    """The reply to a change that was made. What the page shows then it asks for, for it alone knows what that is."""
    return web.Response(content_type="text/html", headers={**SECURITY, **COMMITTED})


async def parts_of(request: web.Request, environment: Environment, query: EnvironmentQuery) -> dict[str, Any]:
    """What the templates of ``environment`` are given."""
    context, console = request.app[CONTEXT], request.app[CONSOLE]
    away = await hosts_away(request, environment)
    apex, wanted = context.platform.apex, query.q.strip().lower()
    names = [name for name in environment.services if (name == query.service if query.service else wanted in name)]
    page, following = cut_page(names, str, _page(query.after))
    rows = ROWS_ALONE if query.service else ROWS
    since = console.state.ages.since

    def card(name: str) -> Card:
        service = environment.services[name]
        shown = sorted(service.instances.items())[:rows]
        made = [_row(id_, one, away, since(environment.id, name, id_)) for id_, one in shown]
        return _card(name, service, apex, made)

    records = _records(environment, wanted)
    peers = [item for item in sorted(environment.peers.items()) if wanted in item[0]]
    history = await context.store.history.read(environment.id)
    return {
        "environment": environment,
        "apex": str(apex).rstrip("."),
        "query": query,
        "cards": [card(name) for name in page],
        "services": len(names),
        "following": following,
        "records": records[:RECORDS],
        "more_records": max(0, len(records) - RECORDS),
        "peers": peers[:PEERS],
        "more_peers": max(0, len(peers) - PEERS),
        "commits": [_commit(entry) for entry in history[:COMMITS]],
        "version": console.state.version_of(environment.id) or "",
        "began": console.state.ages.began,
    }


def _page(after: str) -> PageQuery:
    return PageQuery(CARDS, after)


def _row(id_: str, instance: Instance, away: HostsAway, since: float | None) -> InstanceRow:
    placement = placement_of(instance, away).value
    return InstanceRow(id_, instance, placement, why_not_answered(instance, away), since)


def _card(name: str, service: Service, apex: Name, rows: Sequence[InstanceRow]) -> Card:
    states = {state.value: 0 for state in State}
    for instance in service.instances.values():
        states[instance.state.value] += 1
    qname = f"{name}.{apex}".rstrip(".")
    return Card(name, qname, service.ports, service.former_names, rows, len(service.instances), states)


def _records(environment: Environment, wanted: str) -> list[tuple[str, RecordType, RecordSet]]:
    return [
        (name, rtype, records)
        for name, sets in sorted(environment.records.items())
        if wanted in name
        for rtype, records in sorted(sets.items())
    ]


def _commit(entry: Entry) -> tuple[Entry, Sequence[Change] | None]:
    return entry, read_changes(entry.changes)


ROUTES = (
    Route(
        "GET", PAGE, get_environment_page, "Show an environment", Access.INSIDE, {200: str}, query=EnvironmentQuery,
        show_problem=show_problem,
    ),
    Route(
        "GET", PAGE + "/parts", get_environment_parts, "Show what is in an environment", Access.INSIDE, {200: str},
        query=EnvironmentQuery, show_problem=show_problem,
    ),
)  # fmt: skip
