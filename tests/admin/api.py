"""The API under test: the real application on a real port, and a client of it."""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

from aiohttp import ClientSession

from admin.app import make_app
from admin.auth.tokens import digest, make_token
from admin.console.context import Console
from admin.counts import ApiCounts
from admin.http.connections import Connections
from admin.http.context import CONTEXT, HeldNow
from admin.http.limits import Limits
from admin.http.server import serve
from admin.resources.operations import Probe
from store.credentials import Enrolment
from store.store import Store
from zones.addresses import Platform
from zones.errors import Missing
from zones.hosts import Host
from zones.keys import PublicKey
from zones.names import EnvironmentId, Name
from zones.quota import Quota

ROOT = make_token()
PORT = {"name": "http", "number": 8080, "protocol": "tcp"}
E = "/v1/environments/production"
STREAMS = ("application/x-ndjson", "text/event-stream")
NO_TOKEN = ""  # sends no Authorization header


def make_key(number: int) -> PublicKey:
    """A public key that is unlike those of other numbers."""
    return PublicKey(b64encode(bytes([number] * 32)).decode())


def make_host(number: int, **fields: Any) -> Host:
    """The host ``h<number>``, with a key and an endpoint of its own."""
    return Host(f"h{number}", f"192.0.2.{number}:51820", make_key(number), **fields)


async def enrol_host(store: Store, id_: str) -> None:
    """Lets the host ``id_`` in, for all environments."""
    await store.credentials.invite(id_, Enrolment(id_, 1 << 50))
    await store.credentials.enrol(id_, id_, "f" * 64, 0)


@dataclass(frozen=True)
class Answer:
    """A reply; ``body`` is decoded if it is JSON."""

    status: int
    headers: Mapping[str, str]
    body: Any

    @property
    def revision(self) -> int:
        """The revision in its entity tag."""
        return int(self.headers["ETag"].strip('"').partition("-")[0])

    @property
    def problem(self) -> str:
        """The kind of problem: the end of its type."""
        assert self.headers["Content-Type"].startswith("application/problem+json"), self
        assert self.body["status"] == self.status
        assert self.body["title"]
        assert self.body["detail"]
        kind: str = self.body["type"].rpartition(":")[2]
        return kind


class Api:
    """The API of one process on a port of the loopback interface, and a client with the root token."""

    def __init__(
        self,
        store: Store,
        limits: Limits | None = None,
        held: HeldNow | None = None,
        connections: Connections | None = None,
        quota: Quota = Quota(),  # noqa: B008 frozen
        keep_deleted: int = 0,
    ) -> None:
        self.store = store
        self.counts = ApiCounts()
        self.console = Console()
        self.probes: dict[str, Probe] = {"store": Probe(ok=True)}
        self.asked: list[tuple[str, str, str]] = []
        self.diagnosed = 0
        self.may_diagnose = asyncio.Event()
        self.may_diagnose.set()
        app = make_app(
            store=store,
            platform=Platform(),
            root_token_digest=digest(ROOT),
            explain=self._explain,
            diagnose=self._diagnose,
            deploys=self._deploys,
            mesh=self._mesh,
            readiness=lambda: self.probes,
            metrics=lambda: (b"up 1\n", "text/plain; version=0.0.4; charset=utf-8"),
            limits=limits or Limits(),
            counts=self.counts,
            quota=quota,
            name_share=0.5,
            held=held,
            keep_deleted=keep_deleted,
            console=self.console,
        )
        self.context = app[CONTEXT]
        self.connections = Connections() if connections is None else connections
        self._app = app
        self._until_over = AsyncExitStack()

    async def __aenter__(self) -> Api:
        serving = serve(self._app, "127.0.0.1", 0, self.connections)
        _, self.port = await self._until_over.enter_async_context(serving)
        self._session = ClientSession(f"http://127.0.0.1:{self.port}")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()
        await self._until_over.aclose()

    async def send(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        raw: bytes | None = None,
        token: str = ROOT,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Sends ``body`` as JSON, or ``raw`` as it is."""
        sent = {"Authorization": f"Bearer {token}"} if token else {}
        data = raw
        if body is not None or raw is not None:
            sent["Content-Type"] = "application/json"
            data = json.dumps(body).encode() if raw is None else raw
        request = self._session.request(method, path, data=data, headers={**sent, **(headers or {})})
        async with request as response:
            if response.headers.get("Content-Type") in STREAMS:
                return Answer(response.status, response.headers.copy(), "")  # it has no end
            content = await response.read()
            is_json = "json" in response.headers.get("Content-Type", "")
            decoded = json.loads(content) if is_json and content else content.decode()
            return Answer(response.status, response.headers.copy(), decoded)

    async def get(self, path: str, **options: Any) -> Answer:
        return await self.send("GET", path, **options)

    async def put(self, path: str, body: Any, **options: Any) -> Answer:
        return await self.send("PUT", path, body, **options)

    async def post(self, path: str, body: Any, **options: Any) -> Answer:
        return await self.send("POST", path, body, **options)

    async def delete(self, path: str, **options: Any) -> Answer:
        return await self.send("DELETE", path, **options)

    async def make_token(self, environment: str = "production") -> str:
        """A new token for ``environment``."""
        made = await self.post(f"/v1/environments/{environment}/tokens", {"name": "test"})
        assert made.status == 201, made
        token: str = made.body["token"]
        return token

    async def _explain(
        self, environment: EnvironmentId | None, qname: Name, qtype: str, source: str | None = None, *, is_whole: bool
    ) -> Mapping[str, Any]:
        if environment is None:
            return {"rcode": "REFUSED", "stages": [], "source": source, "is_whole": is_whole}
        if (await self.store.environments.read(environment))[1] is None:
            raise Missing(f"there is no environment {environment!r}", field="environment")
        self.asked.append((environment, str(qname), qtype))
        return {"rcode": "NOERROR", "stages": []}

    async def _mesh(self) -> Mapping[str, Any]:
        return {"hosts": [], "links": []}

    async def _deploys(self, environment: EnvironmentId | None, number: int) -> Mapping[str, Any]:
        return {"deploys": [], "unheard": [{"host": f"{environment}", "reason": f"{number}"}], "propagation": []}

    async def _diagnose(
        self,
        environment: EnvironmentId | None,
        name: str | None,
        source: str | None,
        host: str | None = None,
        *,
        is_whole: bool,
    ) -> Mapping[str, Any]:
        self.diagnosed += 1
        await self.may_diagnose.wait()
        return {"environment": environment, "name": name, "source": source, "host": host, "is_whole": is_whole}
