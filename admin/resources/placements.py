"""Where instances are: whether their hosts exist, and whether there is a path to them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from aiohttp import web

from admin.auth.actors import Tenant
from admin.http.context import ACTOR, CONTEXT
from store.store import Store
from zones import edits
from zones.edits import Edit, PutInstance
from zones.errors import Conflict
from zones.hosts import hosts_of
from zones.model import Environment
from zones.placement import NONE_AWAY, HostsAway, instances_on

SHOWN = 5  # instances that an error names; the rest is a number


async def check_hosts(request: web.Request, wanted: Sequence[Edit]) -> None:
    """Raises `Conflict` where one of the edits ``wanted`` puts an instance on a host that does not exist.

    A host exists once it was let in, be it registered or not: an instance may be put before its agent first starts. It
    is not answered before that host has attached it. A token of an environment is refused each host that was not
    enrolled for it (`admin.allowed_hosts`), and learns nothing of whether there is one.
    """
    if isinstance(request[ACTOR], Tenant):
        return
    named = [(at, edit.host) for at, edit in enumerate(wanted) if isinstance(edit, PutInstance)]
    hosts = [(at, host) for at, host in named if isinstance(host, str)]
    if not hosts:
        return
    known = await _known(request.app[CONTEXT].store, {host for _, host in hosts})
    for at, host in hosts:
        if host not in known:
            error = Conflict(
                f"there is no host {host!r}: 'interlock host list' has those that there are, and 'interlock host enrol"
                f" {host}' lets it in; leave the host out for an instance that no agent attaches",
                field="host",
            )
            error.edit = at if len(wanted) > 1 else None
            raise error


async def _known(store: Store, hosts: Iterable[str]) -> set[str]:
    """Those of ``hosts`` that are registered, or have been let in."""
    wanted = set(hosts)
    known = set(await store.hosts.registered(wanted))
    if wanted - known:
        known |= (await store.credentials.find(wanted - known)).keys()
    if wanted - known:
        known |= (await store.credentials.enrolments()).keys()
    return known


async def hosts_away(request: web.Request, environment: Environment) -> HostsAway:
    """The hosts that are down, of those that have a member of ``environment``."""
    store = request.app[CONTEXT].store
    known = store.environments.known_hosts(environment)
    # To look through a large one takes long, and each reply to a group of commits is about another revision.
    if (known is None or known) and (down := await store.hosts.down()):
        return HostsAway(down=down & (hosts_of(environment) if known is None else known))
    return NONE_AWAY


async def members_on(store: Store, host: str) -> list[Environment]:
    """The environments that have an instance on ``host``, or an external peer whose gateway it is."""
    index = await store.environments.index()
    found = []
    for id_, entry in sorted(index.items()):
        if entry.digest is not None and (entry.hosts is None or host in entry.hosts):
            _, environment = await store.environments.read(id_)
            if environment and (instances_on(environment, host) or peers_of(environment, host)):
                found.append(environment)
    return found


def peers_of(environment: Environment, host: str) -> list[str]:
    """The external peers of ``environment`` whose gateway is ``host``."""
    return [id_ for id_, peer in sorted(environment.peers.items()) if peer.gateway == host]


async def mark_not_attached(request: web.Request, host: str, environments: Iterable[Environment]) -> None:
    """Has the instances on ``host`` in ``environments`` count as not attached: they are answered under no name."""
    context = request.app[CONTEXT]
    now = await context.store.clock.milliseconds()
    for environment in environments:

        def step(_revision: int, found: Environment | None) -> Environment:
            before = edits.must_exist(environment.id, found)  # noqa: B023 it is called in this round
            gone = [one.rpartition(".") for one in instances_on(before, host)]
            marked = [PutInstance(service, id_, attached=False) for id_, _, service in gone]
            return edits.apply(before, marked, now)

        await context.writer.change(environment.id, step)


def name_members(environments: Sequence[Environment], host: str) -> str:
    """What is on ``host`` in ``environments``, for an error."""
    names = [f"{one} of {each.id}" for each in environments for one in instances_on(each, host)]
    names += [f"the gateway of {one} of {each.id}" for each in environments for one in peers_of(each, host)]
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
