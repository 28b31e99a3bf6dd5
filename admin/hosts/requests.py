"""What the agent of a host asks in its session, and what it is answered. All of it is about that host alone."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field

from admin.hosts import rights
from admin.hosts.certificates import Authority, HostRequest
from admin.hosts.errors import BadRequest, NotAllowed
from admin.hosts.examinations import Examinations
from admin.hosts.gathering import Gathering
from admin.hosts.instances import HostInstances
from admin.hosts.lookups import HostLookups
from admin.hosts.proofs import Challenge
from admin.hosts.updates import HostUpdates
from admin.hosts.waits import Waits
from store.credentials import Credential
from store.errors import (
    Corrupt,
    CredentialChanged,
    EndpointTaken,
    HostChanged,
    KeyTaken,
    LeaseNotHeld,
    NetworkTaken,
    RevisionConflict,
    Unavailable,
)
from store.leases import Lease
from store.store import Store
from store.writer import Writer
from watcher.session.protocol import (
    ALL_HOSTS,
    DIFFERENCES,
    LEASE,
    VERSION,
    Acknowledge,
    Answer,
    AskFate,
    AskGone,
    AskState,
    Certified,
    Certify,
    Counted,
    Done,
    Examined,
    Failure,
    Gone,
    Hello,
    Leave,
    MeshState,
    PutInstance,
    Register,
    Removed,
    RemoveInstance,
    Renew,
    Renewed,
    Request,
    Seen,
    SetState,
    Wait,
    Waited,
    Welcome,
)
from zones.errors import Missing, ZonesError
from zones.model import MAX_REVISION
from zones.names import check_environment_id

MOST_ASKED = 10_000  # environments that are asked for at once; no host has as many
REGISTER_ATTEMPTS = 5  # an administrator drains a host, or ends that, between two of them at most
NOT_NOW = "the store does not answer this control plane, or not in time: try again"

log = logging.getLogger(__name__)


@dataclass(slots=True)
class HostRequests:
    """Answers the requests of one session."""

    store: Store
    """Where hosts, leases and acknowledgements are."""
    writer: Writer
    """Commits instances."""
    waits: Waits
    """All waits at this control plane."""
    authority: Authority
    """Certifies a new key."""
    gathering: Gathering
    """When instances are committed."""
    updates: HostUpdates
    """What the session was sent."""
    credential: Credential
    """What the host may do; replaced when it changes."""
    fingerprint: str
    """What the host has shown."""
    challenge: Challenge = field(default_factory=Challenge)
    """What the proofs of this session are for."""
    examinations: Examinations = field(default_factory=Examinations)
    """What this control plane has asked the agent about its host."""
    lookups: HostLookups | None = None
    """Its look-ups; None before the session runs."""
    lease: Lease | None = None
    """The claim of the agent to be the host; None before its `Hello`."""
    where: str = ""
    """Where the agent runs, in its words."""

    @property
    def host(self) -> str:
        """The host of the session."""
        return self.updates.host

    async def answer(self, request: Request) -> Answer | Failure:
        """The answer to ``request``; every error that can be foreseen is one."""
        try:
            return await self._answer(request)
        except Unavailable as error:
            # Where the store is, and as whom it is asked, is nothing that a host has to know.
            log.warning("request_not_answered", extra={"host": self.host, "reason": str(error)})
            return Failure(request.number, "unavailable", NOT_NOW)
        except Corrupt as error:
            log.warning("request_not_answered", extra={"host": self.host, "reason": str(error)})
            return Failure(request.number, "invalid", "the environment is damaged in the store: have it mended")
        except tuple(_KINDS) as error:
            kind = next(kind for type_, kind in _KINDS.items() if isinstance(error, type_))
            return Failure(request.number, kind, str(error))
        except Exception:  # the catch-all of sessions
            log.exception("request_failed", extra={"host": self.host, "request": type(request).__name__})
            return Failure(request.number, "unavailable", "a fault in the control plane, which its log describes")

    async def _answer(self, request: Request) -> Answer:  # noqa: C901 one line for each kind
        if isinstance(request, Hello):
            return await self._begin(request)
        if self.lease is None:
            raise BadRequest("the first request of a session is 'hello'")
        instances = HostInstances(self.store, self.writer, self.lease, self.updates.state)
        match request:
            case Register():
                return await self._register(request, self.lease)
            case Renew():
                milliseconds = int(LEASE * 1000)
                rival = await self.store.leases.renew(
                    self.lease, milliseconds, is_able=request.is_able, where=self.where
                )
                return Renewed(request.number, await self.store.clock.milliseconds(), rival)
            case Acknowledge():
                return await self._acknowledge(request, self.lease)
            case Wait():
                return await self._wait(request)
            case PutInstance():
                committed = await self.gathering.commit(
                    request.environment, self.host, lambda: instances.put(request, self.credential)
                )
                self.updates.note(request.environment)
                return committed
            case SetState():
                return Done(request.number, changed=await instances.set_state(request, self.credential))
            case RemoveInstance():
                return Removed(request.number, await instances.remove(request, self.credential))
            case AskFate():
                return await instances.fate(request, self.credential)
            case AskGone():
                return await self._gone(request)
            case AskState():
                return await self._state(request)
            case Certify():
                return await self._certify(request, self.lease)
            case Examined():
                self.examinations.take(request)
                return Done(request.number)
            case Seen():
                return Done(request.number, changed=self.lookups is not None and self.lookups.take(request))
            case Leave():
                await self.store.hosts.forget(self.host, self.lease)
                return Done(request.number)

    async def _begin(self, request: Hello) -> Welcome:
        if self.lease is not None:
            raise BadRequest("the session has begun already")
        rights.check_hello(request)
        known = await self.store.hosts.find(self.host)
        self.updates.takes_differences = request.version >= DIFFERENCES
        self.lease, self.where = Lease(self.host, request.incarnation), request.where
        return Welcome(request.number, min(request.version, VERSION), self.challenge.public, known)

    async def _register(self, request: Register, lease: Lease) -> Counted:
        rights.check_document(self.host, request, self.challenge)
        for _ in range(REGISTER_ATTEMPTS):
            known = await self.store.hosts.find(self.host)
            document = rights.with_drain(request.host, known)
            try:
                return Counted(
                    request.number, await self.store.hosts.register(document, request.before or known, lease)
                )
            except HostChanged as error:
                changed = error
                if request.before is not None:
                    break
        raise changed

    async def _acknowledge(self, request: Acknowledge, lease: Lease) -> Done:
        for id_, revision in request.revisions.items():
            if id_ != ALL_HOSTS:
                check_environment_id(id_)
            if not 0 <= revision <= MAX_REVISION:
                raise BadRequest(f"{revision} is no revision of {id_!r}")
        await self.store.acks.acknowledge(lease, request.revisions)
        self.waits.note(self.host, request.revisions)
        self.updates.state.propagation.acknowledged(self.host, request.revisions, time.monotonic())
        self.gathering.note(request.revisions)
        return Done(request.number)

    async def _wait(self, request: Wait) -> Waited:
        is_known = request.id == ALL_HOSTS or self.updates.had(check_environment_id(request.id))
        if not is_known and not rights.may_place(self.credential, request.id):
            raise NotAllowed(f"the environment {request.id!r} has no member on the host {self.host!r}")
        lagging = await self.waits.wait(request.id, request.revision, self.host, request.seconds, request.hosts)
        return Waited(request.number, tuple(sorted(lagging)))

    async def _gone(self, request: AskGone) -> Gone:
        asked = [check_environment_id(id_) for id_ in request.environments[:MOST_ASKED]]
        found = await self.store.environments.stored(asked, most=0)
        gone = []
        for id_ in asked:
            entry = found[id_].entry
            is_gone = entry and (entry.digest is None or (entry.hosts is not None and self.host not in entry.hosts))
            # Of one in which the host has no business it learns nothing, not even whether it exists.
            if is_gone or not rights.may_place(self.credential, id_):
                gone.append(id_)
        return Gone(request.number, tuple(gone))

    async def _state(self, request: AskState) -> MeshState:
        needed, acks = self.updates.needed, {}
        for id_ in (*self.updates.sent, ALL_HOSTS):
            found = await self.store.acks.read(id_)
            acks[id_] = {host: revision for host, revision in found.items() if host in needed}
        live = await self.store.leases.live(needed)
        return MeshState(request.number, tuple(sorted(live)), acks)

    async def _certify(self, request: Certify, lease: Lease) -> Certified:
        wanted = HostRequest.parse(request.request)
        await self.store.credentials.prepare(lease, self.fingerprint, wanted.fingerprint)
        return Certified(request.number, self.authority.certify_host(self.host, wanted))


_KINDS: dict[type[Exception], str] = {
    # which error becomes which kind of failure; the first that fits
    LeaseNotHeld: "lease",
    RevisionConflict: "conflict",
    NetworkTaken: "conflict",
    HostChanged: "conflict",
    CredentialChanged: "conflict",
    KeyTaken: "taken",
    EndpointTaken: "taken",
    Missing: "missing",
    ZonesError: "invalid",
    BadRequest: "invalid",
    NotAllowed: "refused",
}
