"""The HTTP servers as parts of a process: the admin API, or the operations endpoints alone."""

from __future__ import annotations

import logging
from asyncio import Future
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from admin.app import make_app
from admin.auth.tokens import digest, load_or_create_root_token
from admin.console.context import Console
from admin.counts import ApiCounts
from admin.errors import BadTokenFile
from admin.hosts.service import HostsService
from admin.http.connections import Connections
from admin.http.context import HeldView
from admin.http.server import Application, serve
from admin.lookups.hub import LookupHub
from admin.resources.operations import Metrics, Readiness, operations_app
from interlock.asked.deploys import DeployService
from interlock.asked.hosts import HostsAsked
from interlock.asked.mesh import MeshService
from interlock.doctor.service import DoctorService
from interlock.errors import PartFailed, StateDirectoryUnusable
from interlock.process.state_dir import TOKEN_FILE
from interlock.process.supervise import Part
from interlock.settings.table import Settings
from interlock.settings.values import reachable
from store.store import Store
from support.endpoints import Endpoint
from support.listening import ListenError
from watcher.guard import Guard

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RootToken:
    """The token that opens all of the admin API."""

    path: Path
    """The file that holds the token, mode 0600."""
    text: str = field(repr=False)
    """The token itself."""
    is_new: bool
    """Whether this process has just made the token."""

    @classmethod
    def of(cls, settings: Settings) -> RootToken:
        """The token in the state directory, generated where there is none. Raises `StateDirectoryUnusable`."""
        path = settings.state_dir / TOKEN_FILE
        try:
            return cls(path, *load_or_create_root_token(path))
        except BadTokenFile as error:
            raise StateDirectoryUnusable(str(error)) from None
        except OSError as error:
            raise StateDirectoryUnusable(f"the admin token {path} cannot be kept: {error.strerror}") from None


class HttpPart:
    """An HTTP server as a part: serves on ``listen`` the application that ``make`` returns.

    ``name`` is the part's name; ``flag`` is named in the error when the address cannot be listened on. ``closed``
    counts the connections that the server ends, by reason.
    """

    def __init__(
        self,
        name: str,
        flag: str,
        listen: Endpoint,
        make: Callable[[], Application],
        closed: Counter[str] | None = None,
    ) -> None:
        self.url = ""  # where clients on this machine reach the server; empty until it serves
        self.part = Part(name, self._run)
        self._flag = flag
        self._listen = listen
        self._make = make
        self._closed = closed

    async def _run(self, ready: Callable[[], None]) -> None:
        try:
            # A new application at each start: aiohttp cannot serve one again that has been shut down.
            async with serve(self._make(), *self._listen, Connections(self._closed)) as (host, port):
                self.url = f"http://{reachable(host, port)}"
                log.info("http_listening", extra={"address": str(Endpoint(host, port)), "part": self.part.name})
                ready()
                await Future()
        except ListenError as error:
            raise PartFailed(f"{error} with {self._flag}") from error


def admin_part(
    settings: Settings,
    store: Store,
    token: RootToken,
    counts: ApiCounts,
    readiness: Readiness,
    metrics: Metrics,
    guard: Guard | None = None,
    hosts: HostsService | None = None,
    lookups: LookupHub | None = None,
    console: Console | None = None,
) -> HttpPart:
    """The admin API, with the operations endpoints beside it on the same address.

    ``guard`` is that of the watcher of this process; None where the process has no watcher. ``hosts`` serves the
    agents of hosts; None where the process serves none. ``lookups`` passes on look-ups; None where none can come.
    ``console`` is what the console shows; None: there is none.
    """
    service = DoctorService(store, settings.platform, readiness, hosts.sessions.examine if hosts else None)
    asked = HostsAsked(hosts) if hosts else None
    deploys, mesh = DeployService(asked), MeshService(asked)

    def make() -> Application:
        return make_app(
            store=store,
            platform=settings.platform,
            root_token_digest=digest(token.text),
            explain=service.explain,
            diagnose=service.diagnose,
            deploys=deploys.show,
            mesh=mesh.show,
            readiness=readiness,
            metrics=metrics,
            counts=counts,
            quota=settings.default_quota,
            name_share=1.0 if settings.guard.is_off else settings.guard.name_share,
            keep_deleted=int(settings.undelete_within),
            held=(lambda: _view(guard)) if guard else None,
            lookups=lookups,
            console=console,
        )

    return HttpPart("admin", "--api-listen", settings.api_listen, make, counts.closed)


def _view(guard: Guard) -> list[HeldView]:
    now = guard.clock()
    return [HeldView(one.kind.value, one.names, one.reason, round(now - one.since, 1)) for one in guard.held]


def operations_part(listen: Endpoint, readiness: Readiness, metrics: Metrics) -> HttpPart:
    """The operations endpoints alone."""
    return HttpPart(
        "operations",
        "--ops-listen",
        listen,
        lambda: operations_app(readiness=readiness, metrics=metrics),
    )
