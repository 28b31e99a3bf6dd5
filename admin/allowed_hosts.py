"""Which hosts a request may bring its environment to.

A host reads the environments that have a member on it, and takes part in them. So a token of an environment names only
hosts that were enrolled for that environment (`interlock host enrol`, `interlock host assign`); what is on another one
already, because an administrator or the host itself put it there, may stay. Root and admin tokens name any host.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from aiohttp import web

from admin.auth.actors import Tenant
from admin.errors import Forbidden
from admin.hosts.rights import may_place
from admin.http.context import ACTOR, CONTEXT
from zones.edits import Edit, PutInstance, PutPeer
from zones.model import Environment


@dataclass(frozen=True, slots=True)
class AllowedHosts:
    """The hosts of a request that its token may not choose."""

    beyond: frozenset[str]
    """Of the hosts that the request names, those that its token may not bring anything to."""

    def check(self, before: Environment, wanted: Sequence[Edit]) -> None:
        """Raises `Forbidden` if one of ``wanted`` brings something of the environment ``before`` to such a host."""
        for edit, host in _named(wanted):
            if host in self.beyond and host != _host_now(before, edit):
                # The same words whether the host exists or not, which is not for this token to learn.
                raise Forbidden(
                    f"a token of the environment {before.id!r} may not place anything on the host {host!r}, for that is"
                    f" not a host that was enrolled for this environment: leave the host out, name another, or ask an"
                    f" administrator, who can use 'interlock host assign'"
                )


async def read_allowed_hosts(request: web.Request, wanted: Sequence[Edit]) -> AllowedHosts:
    """What ``request``, which wants the edits ``wanted``, may not choose. Raises `store.errors.Unavailable`."""
    actor, named = request[ACTOR], {host for _, host in _named(wanted)}
    if not isinstance(actor, Tenant) or not named:
        return AllowedHosts(frozenset())
    credentials = await request.app[CONTEXT].store.credentials.find(named)
    allowed = {host for host, credential in credentials.items() if may_place(credential, actor.environment)}
    return AllowedHosts(frozenset(named - allowed))


def _named(wanted: Sequence[Edit]) -> Iterator[tuple[PutInstance | PutPeer, str]]:
    """Each of ``wanted`` that names a host, and the host."""
    for edit in wanted:
        match edit:
            case PutInstance(host=str(host)) | PutPeer(gateway=str(host)):
                yield edit, host


def _host_now(environment: Environment, edit: PutInstance | PutPeer) -> str | None:
    """The host that what ``edit`` changes is on in ``environment``; None where it is on none, or does not exist."""
    if isinstance(edit, PutPeer):
        peer = environment.peers.get(edit.id)
        return peer.gateway if peer else None
    service = environment.services.get(edit.service)
    instance = service.instances.get(edit.id) if service else None
    return instance.host if instance else None
