"""Hosts. Their agents register them; here they are shown, drained, and forgotten once they are gone."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Literal, TypeVar

from aiohttp import web
from msgspec import UNSET, Meta, Struct, UnsetType
from msgspec.structs import asdict, replace

from admin.http.context import CONTEXT
from admin.http.fields import EnvironmentName, time_of
from admin.http.inputs import read_body, read_query
from admin.http.pages import PageQuery, cut_page
from admin.http.replies import show, show_nothing
from admin.resources.placements import mark_not_attached, members_on, name_members
from store.credentials import Credential, Enrolment
from store.store import Store
from zones.errors import Conflict, Missing
from zones.hosts import Host
from zones.keys import PublicKey
from zones.names import EnvironmentId, check_environment_id

T = TypeVar("T")

HostsRevision = Annotated[int, Meta(ge=0, description="that of all hosts, which grows by one with every change of one")]

# Replies about hosts have no entity tag: whether a host is alive changes without a new revision.


class HostView(Struct, frozen=True):
    """A host. ``draining`` takes nothing new; ``live`` says that its agent has renewed its lease lately.

    ``enrolled`` says since when it has its credential, null if it has none. ``environments`` are those in which it may
    place instances, null for all of them.
    """

    id: str
    """The id."""
    region: str | None
    """The region that it is in. None: no region."""
    endpoint: str
    """Where other hosts reach its WireGuard device, as ADDRESS:PORT."""
    public_key: PublicKey
    """The public key of its WireGuard device, in base64."""
    draining: bool
    """Whether it takes nothing new."""
    behind_nat: bool
    """Whether hosts elsewhere cannot begin to send to it."""
    live: bool
    """Whether its agent has renewed its lease lately, and is able to do its work."""
    enrolled: datetime | None
    """When it got its credential. None: it has none."""
    environments: tuple[str, ...] | None
    """The environments in which it may place instances. None: all of them."""
    enrolment_until: datetime | None
    """Until when a token is valid by which the host may enrol anew. None: there is no such token."""


class HostReply(HostView, frozen=True):
    """A host, at a revision of all hosts. ``unknown`` is empty unless the request names environments."""

    revision: HostsRevision
    unknown: tuple[str, ...] = ()
    """The environments that the request names and that do not exist, or not yet."""


class HostPage(Struct, frozen=True):
    """Hosts by id. ``unreadable`` are all those whose stored document breaks a rule; the others are unharmed.

    ``unregistered`` are all that have a credential, or may enrol, and whose agents have not registered them yet.
    """

    hosts: tuple[HostView, ...]
    """The hosts of this page."""
    unreadable: tuple[str, ...]
    """The ids of all hosts whose document breaks a rule."""
    unregistered: tuple[str, ...]
    """The ids of all that have a credential, or may enrol, and have not registered yet."""
    next: str | None
    """The ``after`` of the next page. None: this is the last one."""
    revision: HostsRevision


class ForgetQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """The confirmation that a host is to be forgotten though it is alive, or though instances are on it, or both."""

    confirm: Annotated[
        Literal["live", "instances", "live,instances"] | None,
        Meta(description="forget it even if it is alive, or even if instances are on it, or both"),
    ] = None


class HostBody(Struct, frozen=True, forbid_unknown_fields=True):
    """The part of a host that its agent does not set itself. What is left out stays as it is.

    ``environments`` are those in which it may place instances, null for all of them.
    """

    draining: bool | UnsetType = UNSET
    """Whether it takes nothing new."""
    environments: tuple[EnvironmentName, ...] | UnsetType | None = UNSET
    """The environments in which it may place instances. None: all of them."""

    def __post_init__(self) -> None:
        for id_ in self.environments or ():
            check_environment_id(id_)

    def change(self, host: Host) -> Host:
        """``host`` with the fields that are given."""
        return host if self.draining is UNSET else replace(host, draining=self.draining)


async def list_hosts(request: web.Request) -> web.Response:
    """List all hosts."""
    query, store = read_query(request, PageQuery), request.app[CONTEXT].store
    found = await store.hosts.read()
    page, following = cut_page(found.hosts.values(), lambda host: host.id, query)
    live = await store.leases.live(host.id for host in page)
    credentials, invited = await store.credentials.read(), await _open_enrolments(store)
    hosts = tuple(_view(host, credentials.get(host.id), invited.get(host.id), live=host.id in live) for host in page)
    unregistered = (credentials.keys() | invited.keys()) - found.hosts.keys() - found.unreadable.keys()
    unreadable = tuple(sorted(found.unreadable))
    return show(request, HostPage(hosts, unreadable, tuple(sorted(unregistered)), following, found.revision))


async def get_host(request: web.Request) -> web.Response:
    """Show a host."""
    id_, store = request.match_info["host"], request.app[CONTEXT].store
    found = await store.hosts.read()
    return await _show(request, found.revision, _require(id_, found.hosts.get(id_)))


async def put_host(request: web.Request) -> web.Response:
    """Drain a host, so that it takes nothing new, or end the drain."""
    id_, store = request.match_info["host"], request.app[CONTEXT].store
    body = await read_body(request, HostBody)
    unknown: tuple[str, ...] = ()
    if body.environments is not UNSET:
        unknown = await unknown_environments(store, body.environments or ())
        _require(id_, await store.hosts.find(id_))
        if not await store.credentials.assign(id_, body.environments):
            raise Conflict(
                f"the host {id_!r} has no credential: enrol it first, for these environments", field="environments"
            )
    revision, host = _require(id_, await store.hosts.change(id_, body.change))
    return await _show(request, revision, host, unknown)


async def delete_host(request: web.Request) -> web.Response:
    """Forget a host, and end its credential and its sessions. Instances that are on it stay, and are not answered."""
    id_, store, query = request.match_info["host"], request.app[CONTEXT].store, read_query(request, ForgetQuery)
    found = await store.hosts.read()
    is_let_in = id_ in await store.credentials.find([id_]) or id_ in await store.credentials.enrolments()
    if id_ not in found.unreadable and not is_let_in:
        _require(id_, found.hosts.get(id_))
    confirmed = (query.confirm or "").split(",")
    if "live" not in confirmed and id_ in found.hosts and id_ in await store.leases.live([id_]):
        raise Conflict(
            f"the host {id_!r} is alive, and its workloads would be cut off at once: run 'interlock host leave' there,"
            " or, if that is meant, send it again with ?confirm=live",
            field="host",
        )
    members = await members_on(store, id_)
    if members and "instances" not in confirmed:
        raise Conflict(
            f"on the host {id_!r} are {name_members(members, id_)}: delete them first ('interlock instance delete"
            f" --host {id_}', 'interlock peer delete'), or, if they are to stay and not be answered, send it again with"
            f" ?confirm={'live,' if 'live' in confirmed else ''}instances",
            field="host",
        )
    # Before, so that none is answered because its host is not known to be down any more; and after, for what its agent
    # has committed in between.
    await mark_not_attached(request, id_, members)
    await store.hosts.forget(id_)
    if members:
        await mark_not_attached(request, id_, await members_on(store, id_))
    return show_nothing(request)


async def unknown_environments(store: Store, ids: Iterable[str]) -> tuple[str, ...]:
    """Those of ``ids`` that are no environment, or not yet."""
    found = await store.environments.stored([EnvironmentId(id_) for id_ in ids], most=0)
    return tuple(id_ for id_, one in found.items() if one.entry is None or one.entry.digest is None)


async def _open_enrolments(store: Store) -> dict[str, Enrolment]:
    now = await store.clock.milliseconds()
    return {host: one for host, one in (await store.credentials.enrolments()).items() if one.until > now}


async def _show(request: web.Request, revision: int, host: Host, unknown: tuple[str, ...] = ()) -> web.Response:
    store = request.app[CONTEXT].store
    live = await store.leases.live([host.id])
    credential = (await store.credentials.find([host.id])).get(host.id)
    view = _view(host, credential, (await _open_enrolments(store)).get(host.id), live=host.id in live)
    return show(request, HostReply(**asdict(view), revision=revision, unknown=unknown))


def _view(host: Host, credential: Credential | None, enrolment: Enrolment | None, *, live: bool) -> HostView:
    enrolled = time_of(credential.enrolled) if credential else None
    environments = credential.environments if credential else None
    return HostView(
        id=host.id,
        region=host.region,
        endpoint=host.endpoint,
        public_key=host.public_key,
        draining=host.draining,
        behind_nat=host.behind_nat,
        live=live,
        enrolled=enrolled,
        environments=environments,
        enrolment_until=time_of(enrolment.until) if enrolment else None,
    )


def _require(id_: str, found: T | None) -> T:
    if found is None:
        raise Missing(f"no host {id_!r} is registered: its agent does that when it starts", field="host")
    return found
