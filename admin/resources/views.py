"""What clients are shown: the model of an environment as the API's JSON."""

from __future__ import annotations

from datetime import UTC, datetime
from ipaddress import IPv6Network
from typing import Annotated, Any

from msgspec import Meta, Struct

from store.tokens import Token
from zones.addresses import Address
from zones.edits import get_instance, get_peer, get_record, get_service
from zones.hosts import Host
from zones.keys import PublicKey
from zones.model import Environment, Instance, Peer, Port, RecordSet, RecordType, Service, State

Revision = Annotated[int, Meta(ge=1, description="the environment's, which grows by one with every commit")]
HostsRevision = Annotated[int, Meta(ge=0, description="that of all hosts, which grows by one with every change of one")]


class InstanceView(Struct, frozen=True):
    """One running copy of a service."""

    id: str
    address: Address
    state: State
    region: str | None
    host: str | None


class InstanceReply(InstanceView, frozen=True):
    """An instance, at a revision of its environment."""

    revision: Revision


class FormerName(Struct, frozen=True):
    """A name that a service had before a rename, and until when it goes on answering."""

    name: str
    until: datetime


class ServiceView(Struct, frozen=True):
    """A service with its instances."""

    name: str
    subnet: IPv6Network
    ports: tuple[Port, ...]
    former_names: tuple[FormerName, ...]
    instances: tuple[InstanceView, ...]


class ServiceReply(ServiceView, frozen=True):
    """A service, at a revision of its environment."""

    revision: Revision


class RecordView(Struct, frozen=True):
    """The values that were set for one name and type; ``name`` is relative to the zone."""

    name: str
    type: RecordType
    ttl: int
    values: tuple[str, ...]


class RecordReply(RecordView, frozen=True):
    """A record set, at a revision of its environment."""

    revision: Revision


class PeerView(Struct, frozen=True):
    """An external machine, and the host that is its way in."""

    id: str
    public_key: PublicKey
    address: Address
    gateway: str


class PeerReply(PeerView, frozen=True):
    """An external machine, at a revision of its environment."""

    revision: Revision


class EnvironmentSummary(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An environment, without what is in it. ``isolated`` is told where it is."""

    id: str
    network: IPv6Network
    enabled: bool
    isolated: bool = False
    revision: Revision


class EnvironmentView(EnvironmentSummary, frozen=True, kw_only=True, omit_defaults=True):
    """An environment with all that is in it."""

    services: tuple[ServiceView, ...]
    records: tuple[RecordView, ...]
    peers: tuple[PeerView, ...]


class HostView(Struct, frozen=True):
    """A host. ``draining`` takes nothing new; ``live`` says that its agent has been heard of lately."""

    id: str
    region: str | None
    endpoint: str
    public_key: PublicKey
    draining: bool
    live: bool


class HostReply(HostView, frozen=True):
    """A host, at a revision of all hosts."""

    revision: HostsRevision


class TokenView(Struct, frozen=True):
    """A token, without what makes it one."""

    id: str
    name: str
    environment: str
    created: datetime


class TokenReply(TokenView, frozen=True):
    """A token just made. ``token`` is shown this once: only a digest of it is kept."""

    token: str


def view_environment(environment: Environment) -> EnvironmentView:
    """All of ``environment``."""
    return EnvironmentView(
        **_fields(summarize(environment)),
        services=tuple(_service(name, service) for name, service in sorted(environment.services.items())),
        records=tuple(
            _record(name, rtype, records)
            for name, sets in sorted(environment.records.items())
            for rtype, records in sorted(sets.items())
        ),
        peers=tuple(_peer(id_, peer) for id_, peer in sorted(environment.peers.items())),
    )


def summarize(environment: Environment) -> EnvironmentSummary:
    """``environment`` without what is in it."""
    return EnvironmentSummary(
        id=environment.id,
        network=environment.network,
        enabled=environment.enabled,
        isolated=environment.isolated,
        revision=environment.revision,
    )


def view_service(environment: Environment, name: str) -> ServiceReply:
    """The service ``name``. Raises `zones.errors.Missing`."""
    return ServiceReply(**_fields(_service(name, get_service(environment, name))), revision=environment.revision)


def view_instance(environment: Environment, service: str, id_: str) -> InstanceReply:
    """The instance ``id_`` of ``service``. Raises `zones.errors.Missing`."""
    instance = _instance(id_, get_instance(environment, service, id_))
    return InstanceReply(**_fields(instance), revision=environment.revision)


def view_record(environment: Environment, name: str, rtype: RecordType) -> RecordReply:
    """The record set of ``name`` and ``rtype``. Raises `zones.errors.Missing`."""
    record = _record(name, rtype, get_record(environment, name, rtype))
    return RecordReply(**_fields(record), revision=environment.revision)


def view_peer(environment: Environment, id_: str) -> PeerReply:
    """The peer ``id_``. Raises `zones.errors.Missing`."""
    return PeerReply(**_fields(_peer(id_, get_peer(environment, id_))), revision=environment.revision)


def view_host(host: Host, *, live: bool) -> HostView:
    """``host`` as it is listed; ``live`` says whether it has a lease."""
    return HostView(host.id, host.region, host.endpoint, host.public_key, host.draining, live)


def view_host_at(host: Host, revision: int, *, live: bool) -> HostReply:
    """``host`` as it is at ``revision`` of all hosts."""
    return HostReply(**_fields(view_host(host, live=live)), revision=revision)


def view_token(token: Token) -> TokenView:
    """``token`` as it is listed."""
    return TokenView(token.id, token.name, token.environment, _time(token.created))


def view_new_token(token: Token, secret: str) -> TokenReply:
    """``token`` as it is shown once, with the ``secret`` that it is."""
    return TokenReply(**_fields(view_token(token)), token=secret)


def _service(name: str, service: Service) -> ServiceView:
    return ServiceView(
        name,
        service.subnet,
        service.ports,
        tuple(FormerName(former, _time(until)) for former, until in sorted(service.former_names.items())),
        tuple(_instance(id_, instance) for id_, instance in sorted(service.instances.items())),
    )


def _instance(id_: str, instance: Instance) -> InstanceView:
    return InstanceView(id_, instance.address, instance.state, instance.region, instance.host)


def _record(name: str, rtype: RecordType, records: RecordSet) -> RecordView:
    return RecordView(name, rtype, records.ttl, records.values)


def _peer(id_: str, peer: Peer) -> PeerView:
    return PeerView(id_, peer.public_key, peer.address, peer.gateway)


def _fields(view: Struct) -> dict[str, Any]:
    return {name: getattr(view, name) for name in view.__struct_fields__}


def _time(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
