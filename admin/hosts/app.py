"""What agents can ask over HTTP: the authority's certificate, an enrolment, a session."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field

import msgspec
from aiohttp import web

from admin.hosts.certificates import Authority, HostRequest, ShownCertificate
from admin.hosts.counts import HostCounts
from admin.hosts.errors import BadRequest, NotAllowed
from admin.hosts.gathering import Gathering
from admin.hosts.limits import HostLimits
from admin.hosts.listener import promote
from admin.hosts.requests import NOT_NOW, HostRequests
from admin.hosts.session import HostSession
from admin.hosts.sessions import HostSessions
from admin.hosts.state import PlatformState
from admin.hosts.updates import HostUpdates
from admin.hosts.waits import Waits
from admin.http.limits import Buckets, source_network
from admin.http.replies import HEADERS
from store.errors import NotInvited, Unavailable
from store.store import Store
from store.writer import Writer
from watcher.session.errors import BadToken
from watcher.session.protocol import (
    AUTHORITY_PATH,
    ENROLMENT_PATH,
    IDLE,
    MAX_REQUEST,
    REFUSED_STATUS,
    SESSION_PATH,
    Enrolled,
    Enrolment,
)
from watcher.session.token import EnrolmentToken
from zones.errors import ZonesError
from zones.names import check_host_id

LARGEST_BODY = 32_768  # octets; an enrolment has about a thousand

log = logging.getLogger(__name__)
audit_log = logging.getLogger("interlock.audit")


@dataclass(slots=True)
class HostsContext:
    """The parts that all handlers share."""

    store: Store
    """The store."""
    writer: Writer
    """Commits instances."""
    authority: Authority
    """The platform's certificate authority."""
    state: PlatformState
    """What sessions are sent."""
    sessions: HostSessions
    """All sessions."""
    waits: Waits
    """All waits."""
    gathering: Gathering
    """When instances are committed."""
    limits: HostLimits
    """How much may be used."""
    counts: HostCounts
    """Where it is counted."""
    enrolments: Buckets = field(init=False)
    """The rate of enrolments, by source network."""

    def __post_init__(self) -> None:
        self.enrolments = Buckets(self.limits.enrolments, self.limits.enrolment_burst, 10_000)


CONTEXT = web.AppKey("hosts", HostsContext)


def hosts_app(context: HostsContext) -> web.Application:
    """The application that agents talk to."""
    app = web.Application(client_max_size=LARGEST_BODY, middlewares=[_answer_problems])
    app[CONTEXT] = context
    app.on_response_prepare.append(_add_headers)
    app.router.add_get(AUTHORITY_PATH, get_authority)
    app.router.add_post(ENROLMENT_PATH, post_enrolment)
    app.router.add_get(SESSION_PATH, get_session)
    return app


async def get_authority(request: web.Request) -> web.Response:
    """The certificate of the authority. Whoever has an enrolment token can tell whether it is the right one."""
    pem = request.app[CONTEXT].authority.certificate_pem
    return web.Response(text=pem, content_type="application/pem-certificate-chain")


async def post_enrolment(request: web.Request) -> web.Response:
    """Gives a host its certificate, and uses up its token."""
    context = request.app[CONTEXT]
    if wait := context.enrolments.take(source_network(request.remote or ""), time.monotonic()):
        context.counts.refused["rate"] += 1
        return _problem(429, "too many enrolments from this network", {"Retry-After": str(int(wait) + 1)})
    asked = msgspec.json.decode(await request.read(), type=Enrolment)
    check_host_id(asked.host)
    host, outcome = asked.host, "refused"
    try:
        wanted = HostRequest.parse(asked.request)
        known = (await context.store.credentials.find([host])).get(host)
        # Whoever has the key of the credential needs no token: the reply to the first request may have been lost.
        if known is None or not known.admits(wanted.fingerprint):
            digest = EnrolmentToken.parse(asked.token).digest
            now = await context.store.clock.milliseconds()
            await context.store.credentials.enrol(host, digest, wanted.fingerprint, now)
            context.counts.enrolled += 1
        outcome = "done"
    finally:
        audit_log.info("host_enrolled", extra={"host": host, "outcome": outcome, "source": request.remote})
    certificate = context.authority.certify_host(host, wanted)
    return web.Response(body=msgspec.json.encode(Enrolled(certificate)), content_type="application/json")


async def get_session(request: web.Request) -> web.StreamResponse:
    """A session with the agent of the host that the client's certificate names."""
    context = request.app[CONTEXT]
    shown = _shown(request)
    if not context.state.is_loaded:
        raise Unavailable("not loaded yet")
    updates = HostUpdates(shown.host, context.state)
    credential = await context.sessions.admit(shown.host, shown.fingerprint)
    promote(request.transport)
    socket = web.WebSocketResponse(heartbeat=IDLE, max_msg_size=MAX_REQUEST, compress=False, timeout=1.0)
    requests = HostRequests(
        context.store,
        context.writer,
        context.waits,
        context.authority,
        context.gathering,
        updates,
        credential,
        shown.fingerprint,
    )
    session = HostSession(
        socket, requests, context.limits, context.counts, context.sessions.begun, context.sessions.lookups
    )
    context.sessions.add(session)
    context.state.add(shown.host, updates)
    context.counts.sessions += 1
    try:
        # Read again now that an announcement would reach this session: it may have been forgotten in between.
        requests.credential = await context.sessions.admit(shown.host, shown.fingerprint)
        await socket.prepare(request)
        context.counts.began += 1
        log.info("session_began", extra={"host": shown.host, "source": request.remote})
        await session.run()
    except ConnectionError:
        pass  # the agent has gone while its session began
    finally:
        context.counts.sessions -= 1
        context.state.remove(shown.host, updates)
        context.sessions.remove(session)
    return socket


def _shown(request: web.Request) -> ShownCertificate:
    tls = request.transport.get_extra_info("ssl_object") if request.transport else None
    der = tls.getpeercert(binary_form=True) if tls else None
    if not der:
        raise _Unauthenticated("a session needs the certificate of a host: enrol it first")
    try:
        return ShownCertificate.parse(der)
    except BadRequest as error:
        raise _Unauthenticated(str(error)) from None


class _Unauthenticated(Exception):
    """The client has shown no certificate of a host."""


@web.middleware
async def _answer_problems(request: web.Request, handler: object) -> web.StreamResponse:
    """Turns an error into a problem document (RFC 9457)."""
    counts = request.app[CONTEXT].counts
    try:
        return await handler(request)  # type: ignore[operator, no-any-return]
    except web.HTTPException as error:
        return _problem(error.status, error.reason)
    except _Unauthenticated as error:
        counts.refused["certificate"] += 1
        return _problem(401, str(error))
    except (NotAllowed, NotInvited) as error:
        counts.refused["credential"] += 1
        return _problem(REFUSED_STATUS, str(error))
    except Unavailable as error:
        counts.refused["store"] += 1
        log.warning("agent_not_answered", extra={"reason": str(error), "source": request.remote})
        return _problem(503, NOT_NOW, {"Retry-After": "1"})
    except (BadToken, BadRequest, ZonesError, msgspec.DecodeError, UnicodeDecodeError) as error:
        counts.refused["malformed"] += 1
        return _problem(400, str(error))
    except Exception:  # the catch-all for agents
        log.exception("agent_request_failed", extra={"path": request.path})
        return _problem(500, "a fault in the control plane, which its log describes")


def _problem(status: int, detail: str, headers: dict[str, str] | None = None) -> web.Response:
    body = msgspec.json.encode({"type": "about:blank", "status": status, "detail": detail})
    return web.Response(status=status, body=body, content_type="application/problem+json", headers=headers)


async def _add_headers(_request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(HEADERS)
