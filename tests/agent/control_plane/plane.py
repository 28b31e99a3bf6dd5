"""A control plane of the tests: real TLS and a real WebSocket, and answers and faults that a test decides.

It is for what the agent does when a control plane is slow, silent, cut or wrong. What a right one does, the tests of
`admin` and of the mesh show.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import WSMsgType, web
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from agent.control_plane.connection import ControlPlane
from agent.control_plane.credential import CredentialFiles
from watcher.session.protocol import (
    AUTHORITY_PATH,
    CONTROL_PLANE_NAME,
    ENROLMENT_PATH,
    SESSION_PATH,
    VERSION,
    Answer,
    Done,
    Enrolled,
    Enrolment,
    Failure,
    Hello,
    Request,
    Update,
    Welcome,
    decode_request,
    encode,
)
from watcher.session.token import EnrolmentToken
from zones.hosts import Host
from zones.keys import PublicKey

CHALLENGE = PublicKey("B" * 42 + "A=")


class Signer:
    """A certificate authority."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "the authority of a test")])
        constraints = x509.BasicConstraints(ca=True, path_length=0)
        builder = _builder(self.name, self.name, self.key.public_key())
        self.certificate = builder.add_extension(constraints, critical=True).sign(self.key, SHA256())

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(Encoding.PEM).decode()

    @property
    def token(self) -> EnrolmentToken:
        return EnrolmentToken(b"s" * 16, self.certificate.fingerprint(SHA256()))

    def server(self, name: str = CONTROL_PLANE_NAME) -> bytes:
        """A key and a certificate, in PEM, of a server with the DNS name ``name``."""
        key = ec.generate_private_key(ec.SECP256R1())
        alternative = x509.SubjectAlternativeName([x509.DNSName(name)])
        signed = self._sign("a control plane", key.public_key(), ExtendedKeyUsageOID.SERVER_AUTH, alternative)
        return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + signed

    def certify(self, host: str, request: str) -> str:
        """The certificate, in PEM, that ``request`` asks for."""
        key = x509.load_pem_x509_csr(request.encode()).public_key()
        return self._sign(host, key, ExtendedKeyUsageOID.CLIENT_AUTH).decode()

    def _sign(self, name: str, key: Any, usage: x509.ObjectIdentifier, *more: x509.ExtensionType) -> bytes:
        builder = _builder(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]), self.name, key)
        for extension in (x509.ExtendedKeyUsage([usage]), *more):
            builder = builder.add_extension(extension, critical=False)
        return builder.sign(self.key, SHA256()).public_bytes(Encoding.PEM)


def _builder(subject: x509.Name, issuer: x509.Name, key: Any) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
    )


Answers = Callable[[Request], Answer | Failure | None]
"""The answer to a request; None for none at all."""


def done(request: Request) -> Answer | Failure | None:
    """Says that everything was done."""
    return Done(request.number)


@dataclass(eq=False)
class Plane:
    """One control plane."""

    authority: Signer
    answers: Answers = done
    updates: Sequence[Update] = ()
    """What each session begins with."""
    status: int = 0
    """Refuses sessions with this status of HTTP; 0 for none."""
    host: Host | None = None
    """The document of the host, with which a session begins."""
    greets: bool = True
    """Whether it answers the first request."""
    version: int = VERSION
    """The version of the protocol that it speaks."""
    port: int = 0
    """Where it listens; 0 before it has run."""
    requests: list[Request] = field(default_factory=list)
    """All that it was asked."""
    sockets: list[web.WebSocketResponse] = field(default_factory=list)
    """The sessions that are open."""
    enrolled: list[Enrolment] = field(default_factory=list)
    """The enrolments that were granted."""
    peers: list[str] = field(default_factory=list)
    """The host that the certificate of each session names."""

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    async def session(self, request: web.Request) -> web.StreamResponse:
        shown = request.transport.get_extra_info("peercert") if request.transport else None
        if self.status or not shown:
            return web.Response(status=self.status or 403)
        self.peers.append(dict(pair[0] for pair in shown["subject"])["commonName"])
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self.sockets.append(socket)
        try:
            async for message in socket:
                if message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
                    await self._answer(socket, decode_request(message.data))
        finally:
            self.sockets.remove(socket)
        return socket

    async def _answer(self, socket: web.WebSocketResponse, request: Request) -> None:
        self.requests.append(request)
        if isinstance(request, Hello):
            if self.greets:
                await socket.send_bytes(encode(Welcome(request.number, self.version, CHALLENGE, self.host)))
                for update in self.updates:
                    await socket.send_bytes(encode(update))
        elif answer := self.answers(request):
            await socket.send_bytes(encode(answer))

    async def say(self, *updates: Update) -> None:
        """Sends ``updates`` in the newest session."""
        for update in updates:
            await self.sockets[-1].send_bytes(encode(update))

    async def enrol(self, request: web.Request) -> web.Response:
        asked = msgspec.json.decode(await request.read(), type=Enrolment)
        if asked.token != str(self.authority.token) or self.enrolled:
            return web.json_response({"title": "Forbidden", "detail": "the token was used already"}, status=403)
        self.enrolled.append(asked)
        return web.Response(body=msgspec.json.encode(Enrolled(self.authority.certify(asked.host, asked.request))))

    async def give_authority(self, _: web.Request) -> web.Response:
        return web.Response(text=self.authority.pem)


@asynccontextmanager
async def running(plane: Plane, directory: Path, name: str = CONTROL_PLANE_NAME) -> AsyncIterator[Plane]:
    """``plane``, listening, with a certificate for ``name``; at its earlier port if it has run before."""
    app = web.Application()
    app.router.add_get(SESSION_PATH, plane.session)
    app.router.add_post(ENROLMENT_PATH, plane.enrol)
    app.router.add_get(AUTHORITY_PATH, plane.give_authority)
    context = await asyncio.to_thread(_context, plane.authority, directory, name)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", plane.port, ssl_context=context, reuse_address=True).start()
    plane.port = runner.addresses[0][1]
    try:
        yield plane
    finally:
        for socket in [*plane.sockets]:
            await socket.close()
        await runner.cleanup()


def _context(authority: Signer, directory: Path, name: str) -> ssl.SSLContext:
    path = directory / "plane.pem"
    path.write_bytes(authority.server(name))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(path)
    context.load_verify_locations(cadata=authority.pem)
    context.verify_mode = ssl.CERT_OPTIONAL
    return context


@dataclass
class Ear:
    """Notes what it hears."""

    sessions: int = 0
    ended: int = 0
    updates: list[Update] = field(default_factory=list)

    def begin(self) -> None:
        self.sessions += 1

    def take(self, update: Update) -> None:
        assert self.sessions
        self.updates.append(update)

    def end(self) -> None:
        self.ended += 1


@asynccontextmanager
async def connected(files: CredentialFiles, *urls: str) -> AsyncIterator[tuple[ControlPlane, Ear]]:
    ear = Ear()
    control = ControlPlane(urls, files, "i1", "a test", ear)
    await control.start()
    try:
        yield control, ear
        assert control._task
        assert not control._task.done()
    finally:
        await control.stop()
