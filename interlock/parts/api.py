"""The admin API and the operations endpoints, as parts of a process."""

from __future__ import annotations

import logging
from asyncio import Future
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from admin.app import make_app
from admin.auth.tokens import digest, load_or_create_root_token
from admin.counts import ApiCounts
from admin.errors import BadTokenFile
from admin.http.server import Application, ListenError, serve
from admin.resources.operations import Readiness, operations_app
from interlock.errors import PartFailed, StateDirectoryUnusable
from interlock.observe.explain import Explainer
from interlock.observe.metrics import Metrics
from interlock.process.state_dir import TOKEN_FILE
from interlock.process.supervise import Part
from interlock.settings.table import Settings
from interlock.settings.values import Endpoint
from interlock.welcome import reachable
from store.store import Store

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RootToken:
    """The token that opens everything; ``is_new`` says whether it was made just now."""

    path: Path
    text: str = field(repr=False)
    is_new: bool

    @classmethod
    def of(cls, settings: Settings) -> RootToken:
        """The token in the state directory, made if there is none. Raises `StateDirectoryUnusable`."""
        path = settings.state_dir / TOKEN_FILE
        try:
            return cls(path, *load_or_create_root_token(path))
        except BadTokenFile as error:
            raise StateDirectoryUnusable(str(error)) from None
        except OSError as error:
            raise StateDirectoryUnusable(f"the admin token {path} cannot be kept: {error.strerror}") from None


class HttpPart:
    """Serves what ``make`` makes on ``listen``. ``url`` is where clients on this machine reach it, once it serves."""

    def __init__(self, name: str, flag: str, listen: Endpoint, make: Callable[[], Application]) -> None:
        self.url = ""
        self.part = Part(name, self._run)
        self._flag = flag
        self._listen = listen
        self._make = make

    async def _run(self, ready: Callable[[], None]) -> None:
        try:
            # A new application each time: one that has ended cannot be served again.
            async with serve(self._make(), *self._listen) as (host, port):
                self.url = f"http://{reachable(host, port)}"
                log.info("http_listening", extra={"address": str(Endpoint(host, port)), "part": self.part.name})
                ready()
                await Future()
        except ListenError as error:
            raise PartFailed(f"{error} with {self._flag}") from error


def admin_part(
    settings: Settings, store: Store, token: RootToken, counts: ApiCounts, readiness: Readiness, metrics: Metrics
) -> HttpPart:
    """The admin API, with the operations endpoints beside it."""

    def make() -> Application:
        return make_app(
            store=store,
            platform=settings.platform,
            root_token_digest=digest(token.text),
            explain=Explainer(store, settings.platform).explain,
            readiness=readiness,
            metrics=metrics.render,
            counts=counts,
        )

    return HttpPart("admin", "--api-listen", settings.api_listen, make)


def operations_part(listen: Endpoint, readiness: Readiness, metrics: Metrics) -> HttpPart:
    """The operations endpoints alone."""
    return HttpPart(
        "operations",
        "--ops-listen",
        listen,
        lambda: operations_app(readiness=readiness, metrics=metrics.render),
    )
