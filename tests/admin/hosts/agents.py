"""A control plane for tests, and the agents of hosts that talk to it: real TLS, real sessions, no mesh.

An agent keeps the world as it hears it; `LightAgent.wait_until` waits for what a test needs to be true of it.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import os
import ssl
from base64 import b64decode, b64encode
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Self, TypeVar

import msgspec
from aiohttp import ClientSession, ClientWebSocketResponse, TCPConnector, WSMsgType
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from admin.hosts.limits import HostLimits
from admin.hosts.service import HostsService
from interlock.parts.hosts import HostsParts
from store.store import Store
from support.endpoints import Endpoint
from tests.waiting import scaled
from watcher.guard import Guard
from watcher.session.protocol import (
    AUTHORITY_PATH,
    CONTROL_PLANE_NAME,
    ENROLMENT_PATH,
    SESSION_PATH,
    Acknowledge,
    EnvironmentChanged,
    EnvironmentGone,
    EnvironmentIs,
    Failure,
    Hello,
    HostGone,
    HostIs,
    HostsAre,
    Loaded,
    Register,
    Renew,
    Request,
    Welcome,
    decode_message,
    encode,
    key_proof_input,
    split_messages,
)
from watcher.session.token import EnrolmentToken
from zones import document as zones_document
from zones import parts
from zones.addresses import Platform
from zones.hosts import Host
from zones.keys import PublicKey

DEADLINE = scaled(60.0)  # seconds
T = TypeVar("T")


class ControlPlane:
    """A control plane as `interlock admin` has it: a watcher of the store, and the service for agents."""

    def __init__(self, store: Store, limits: HostLimits | None = None, listen: str = "127.0.0.1:0") -> None:
        self.service = HostsService(store, [Endpoint.parse(listen)], limits or HostLimits())
        self._parts = HostsParts(self.service)
        self.watcher = self._parts.watch(Platform(), Guard())
        self._tasks: list[asyncio.Task[Any]] = []

    async def __aenter__(self) -> ControlPlane:
        ready = asyncio.Event()
        hosts, state = self._parts.parts(self.watcher)
        self._tasks = [
            asyncio.create_task(self.watcher.run()),
            asyncio.create_task(_run(hosts.run(ready.set))),
            asyncio.create_task(_run(state.run(lambda: None))),
        ]
        async with asyncio.timeout(DEADLINE):
            while not (self.service.listening and self.service.state.is_loaded):
                for task in self._tasks:
                    if task.done():
                        task.result()
                await asyncio.sleep(0.01)
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in reversed(self._tasks):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    @property
    def url(self) -> str:
        return f"https://{self.service.listening[0]}"


async def _run(work: Any) -> None:
    await work


class WireGuardKey:
    """A key pair of a host."""

    def __init__(self) -> None:
        self.private = X25519PrivateKey.generate()
        self.public = PublicKey(b64encode(self.private.public_key().public_bytes_raw()).decode())

    def prove(self, host: str, challenge: PublicKey) -> str:
        shared = self.private.exchange(X25519PublicKey.from_public_bytes(b64decode(challenge)))
        return hmac.new(shared, key_proof_input(host, self.public), "sha256").hexdigest()


@dataclass
class Files:
    """What lies on the disk of a host that has enrolled."""

    host: str
    key: ec.EllipticCurvePrivateKey
    certificate: str = ""
    authority: str = ""

    def request(self, key: ec.EllipticCurvePrivateKey | None = None) -> str:
        """A certificate signing request for the host's key, or for ``key``."""
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self.host)])
        signed = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key or self.key, SHA256())
        return signed.public_bytes(Encoding.PEM).decode()

    def tls(self) -> ssl.SSLContext:
        """TLS as an agent has it: it trusts the authority alone, and shows the host's certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=self.authority)
        if self.certificate:
            pem = self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            descriptor = os.memfd_create("agent")
            try:
                os.write(descriptor, pem + self.certificate.encode())
                context.load_cert_chain(f"/proc/self/fd/{descriptor}")
            finally:
                os.close(descriptor)
        return context


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


async def read_authority(url: str, token: str) -> str:
    """The authority's certificate from ``url``, which is the one that ``token`` names."""
    unverified = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    unverified.check_hostname, unverified.verify_mode = False, ssl.CERT_NONE
    async with ClientSession() as http, http.get(url + AUTHORITY_PATH, ssl=unverified) as reply:
        pem = await reply.text()
    assert sha256(ssl.PEM_cert_to_DER_cert(pem)).digest() == EnrolmentToken.parse(token).authority
    return pem


async def enrol(url: str, host: str, token: str, key: ec.EllipticCurvePrivateKey | None = None) -> Files:
    """Enrols ``host`` by ``token``; an assertion fails where it is refused."""
    files = Files(host, key or new_key(), authority=await read_authority(url, token))
    status, body = await ask_enrolment(url, files, token)
    assert status == 200, body
    files.certificate = body["certificate"]
    return files


async def ask_enrolment(url: str, files: Files, token: str, request: str | None = None) -> tuple[int, Any]:
    """The status and the body of the reply to an enrolment."""
    body = {"host": files.host, "token": token, "request": files.request() if request is None else request}
    async with ClientSession() as http:
        tls = Files(files.host, files.key, authority=files.authority).tls()
        sent = http.post(url + ENROLMENT_PATH, json=body, ssl=tls, server_hostname=CONTROL_PLANE_NAME)
        async with sent as reply:
            return reply.status, json.loads(await reply.read())


class Refused(Exception):
    """A request in a session failed; ``kind`` says how."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(f"{failure.kind}: {failure.text}")
        self.kind = failure.kind


@dataclass
class LightAgent:
    """The agent of one host, without a mesh: it keeps what it hears."""

    url: str
    files: Files
    incarnation: str = "i1"
    wireguard: WireGuardKey = field(default_factory=WireGuardKey)
    environments: dict[str, int] = field(default_factory=dict)
    """The revision of each environment."""
    documents: dict[str, bytes] = field(default_factory=dict)
    hosts: dict[str, Host] = field(default_factory=dict)
    hosts_revision: int | None = None
    loaded: list[str | None] = field(default_factory=list)
    """The epoch of each `Loaded`."""
    heard: list[Any] = field(default_factory=list)
    """All updates, in their order."""
    version: int = 1
    """The newest version of the protocol that it says it speaks."""
    acknowledges: bool = False
    """Whether it acknowledges each revision as it hears it."""
    close_code: int | None = None
    on_update: Callable[[Any], None] | None = None

    async def __aenter__(self) -> Self:
        self._http = ClientSession(connector=TCPConnector(limit=0))
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._changed = asyncio.Event()
        self._number = 0
        try:
            self.socket: ClientWebSocketResponse = await self._http.ws_connect(
                self.url + SESSION_PATH,
                ssl=self.files.tls(),
                server_hostname=CONTROL_PLANE_NAME,
                max_msg_size=0,
                autoping=True,
            )
        except BaseException:
            await self._http.close()
            raise
        self._reading = asyncio.create_task(self._read())
        try:
            self.welcome: Welcome = await self.ask(
                Hello(self._next(), self.version, self.incarnation, f"test, {self.host}")
            )
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        self._reading.cancel()
        await asyncio.wait({self._reading})
        await self.socket.close()
        await self._http.close()

    @property
    def host(self) -> str:
        return self.files.host

    async def ask(self, request: Request) -> Any:
        """The answer to ``request``. Raises `Refused`, and ``ConnectionError`` where the session ends first."""
        answer = self._answers[request.number] = asyncio.get_running_loop().create_future()
        await self.socket.send_bytes(encode(request))
        async with asyncio.timeout(DEADLINE):
            found = await answer
        if isinstance(found, Failure):
            raise Refused(found)
        return found

    async def do(self, kind: Callable[..., Request], *args: Any, **fields: Any) -> Any:
        """The answer to a request of ``kind``, whose number is the next one."""
        return await self.ask(kind(self._next(), *args, **fields))

    async def join(self, endpoint: str, region: str | None = None) -> Host:
        """Takes the lease, and registers."""
        await self.do(Renew, True)
        host = Host(self.host, endpoint, self.wireguard.public, region=region)
        await self.do(Register, host, {host.public_key: self.wireguard.prove(self.host, self.welcome.challenge)})
        return host

    async def wait_until(self, is_true: Callable[[LightAgent], T]) -> T:
        """Returns what ``is_true`` gives, once that is true."""
        async with asyncio.timeout(DEADLINE):
            while not (found := is_true(self)):
                self._changed.clear()
                await self._changed.wait()
        return found

    async def wait_for_end(self) -> int:
        """The code with which the control plane has ended the session."""
        async with asyncio.timeout(DEADLINE):
            await asyncio.wait({self._reading})
        return self.close_code or 0

    def _next(self) -> int:
        self._number += 1
        return self._number

    async def _read(self) -> None:
        try:
            async for message in self.socket:
                if message.type is WSMsgType.BINARY:
                    for one in split_messages(message.data):
                        self._take(decode_message(one))
        finally:
            self.close_code = self.socket.close_code
            for answer in self._answers.values():
                if not answer.done():
                    answer.set_exception(ConnectionError("the session has ended"))
                    answer.exception()
            self._changed.set()

    def _take(self, message: Any) -> None:
        number = getattr(message, "number", None)
        if number is not None:
            if (answer := self._answers.pop(number, None)) and not answer.done():
                answer.set_result(message)
            return
        self.heard.append(message)
        match message:
            case EnvironmentIs() | EnvironmentChanged():
                self._take_environment(message)
            case EnvironmentGone():
                self.environments.pop(message.id)
                self.documents.pop(message.id)
            case HostIs():
                self.hosts[message.host.id] = message.host
            case HostGone():
                del self.hosts[message.id]
            case HostsAre():
                self.hosts_revision = message.revision
                self._acknowledge("@hosts", message.revision)
            case Loaded():
                self.loaded.append(message.epoch)
        if self.on_update:
            self.on_update(message)
        self._changed.set()

    def _take_environment(self, message: EnvironmentIs | EnvironmentChanged) -> None:
        self.environments[message.id] = message.revision
        if isinstance(message, EnvironmentIs):
            self.documents[message.id] = bytes(message.document)
        else:
            before = zones_document.decode(self.documents[message.id])
            after = parts.apply_difference(before, parts.decode(bytes(message.difference)))
            self.documents[message.id] = zones_document.encode(after)
        self._acknowledge(message.id, message.revision)

    def _acknowledge(self, id_: str, revision: int) -> None:
        if self.acknowledges:
            sent = asyncio.create_task(self.socket.send_bytes(encode(Acknowledge(self._next(), {id_: revision}))))
            sent.add_done_callback(lambda done: done.cancelled() or done.exception())


def decode(document: bytes) -> Any:
    """A document that an agent has heard, as plain JSON."""
    return msgspec.json.decode(document)
