"""Agents without a mesh: each has a session by real TLS, renews its lease, and acknowledges what it hears."""

from __future__ import annotations

import asyncio
import os
import random
import re
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from aiohttp import ClientError, ClientSession, ClientWebSocketResponse, WSMsgType
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from admin.hosts.certificates import Authority, HostRequest
from watcher.session.protocol import (
    ALL_HOSTS,
    CONTROL_PLANE_NAME,
    SESSION_PATH,
    VERSION,
    Acknowledge,
    Hello,
    Renew,
    Welcome,
    decode_message,
    encode,
    split_messages,
)

RENEW_EVERY = 1.5  # seconds, as an agent does
GATHER = 0.01  # seconds in which acknowledgements are put together, as an agent does
_UPDATE = re.compile(rb'\{"is":"(\w+)"(?:,"id":"([^"]*)"(?:,"before":\d+)?,"revision":(\d+)|,"revision":(\d+))?')


@dataclass(frozen=True, slots=True)
class Credential:
    """What lies on the disk of a host."""

    host: str
    fingerprint: str
    pem: bytes
    authority: str

    @classmethod
    def make(cls, host: str, authority: Authority) -> Credential:
        key = ec.generate_private_key(ec.SECP256R1())
        request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, SHA256())
        parsed = HostRequest.parse(request.public_bytes(Encoding.PEM).decode())
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        pem = private + authority.certify_host(host, parsed).encode()
        return cls(host, parsed.fingerprint, pem, authority.certificate_pem)

    def tls(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=self.authority)
        descriptor = os.memfd_create("agent")
        try:
            os.write(descriptor, self.pem)
            context.load_cert_chain(f"/proc/self/fd/{descriptor}")
        finally:
            os.close(descriptor)
        return context


@dataclass(eq=False, slots=True)
class Agent:
    """The agent of one host."""

    url: str
    credential: Credential
    http: ClientSession
    on_heard: Callable[[str, str, int, int, float], None]
    """Is called with this host, each environment, its revision, the octets of the message, and when it was heard of."""
    connecting: asyncio.Semaphore
    """Held by those that connect: all have one address here, of which a control plane takes some at a time."""
    version: int = VERSION
    """The newest version of the protocol that it says it speaks."""
    is_loaded: asyncio.Event = field(default_factory=asyncio.Event)
    renewals: int = 0
    """How often its lease was renewed so far."""
    _due: dict[str, int] = field(default_factory=dict)
    _number: int = 10
    _renewed: asyncio.Event = field(default_factory=asyncio.Event)
    _is_sending: bool = False

    async def run(self) -> None:
        """Connects, again if it is turned away, and goes on until it is cancelled."""
        tls = self.credential.tls()
        while True:
            with suppress(ClientError, OSError, TimeoutError):
                async with self.connecting:
                    socket = await self.http.ws_connect(
                        self.url + SESSION_PATH, ssl=tls, server_hostname=CONTROL_PLANE_NAME, max_msg_size=0
                    )
                    await self._begin(socket)
                async with socket:
                    renewing = asyncio.create_task(self._renew(socket))
                    try:
                        await self._read(socket)
                    finally:
                        renewing.cancel()
            await asyncio.sleep(random.uniform(0.2, 1.0))

    async def _begin(self, socket: ClientWebSocketResponse) -> None:
        await socket.send_bytes(encode(Hello(1, self.version, "i1", "bench")))
        message = await socket.receive()
        while not isinstance(decode_message(message.data), Welcome):
            message = await socket.receive()
        await socket.send_bytes(encode(Renew(2, True)))

    async def _read(self, socket: ClientWebSocketResponse) -> None:
        async for message in socket:
            if message.type is not WSMsgType.BINARY:
                continue
            now = time.monotonic()
            for one in split_messages(message.data):
                self._take(socket, one, now)

    def _take(self, socket: ClientWebSocketResponse, message: bytes, now: float) -> None:
        found = _UPDATE.match(message)
        if found is None:
            return
        if found[1] in (b"environment", b"environment_changed"):
            id_, revision = found[2].decode(), int(found[3])
            self.on_heard(self.credential.host, id_, revision, len(message), now)
            self._acknowledge(socket, id_, revision)
        elif found[1] == b"hosts":
            self._acknowledge(socket, ALL_HOSTS, int(found[4]))
        elif found[1] == b"loaded":
            self.is_loaded.set()
        elif found[1] == b"renewed":
            self.renewals += 1
            self._renewed.set()

    def _acknowledge(self, socket: ClientWebSocketResponse, id_: str, revision: int) -> None:
        self._due[id_] = revision
        if not self._is_sending:
            self._is_sending = True
            asyncio.get_running_loop().call_later(GATHER, lambda: asyncio.ensure_future(self._send_due(socket)))

    async def _send_due(self, socket: ClientWebSocketResponse) -> None:
        self._is_sending = False
        due, self._due = self._due, {}
        self._number += 1
        with suppress(ClientError, OSError):
            await socket.send_bytes(encode(Acknowledge(self._number, due)))

    async def _renew(self, socket: ClientWebSocketResponse) -> None:
        """Renews one time after the other, as an agent does: none is asked for before the last one was answered."""
        await asyncio.sleep(random.uniform(0, RENEW_EVERY))
        while True:
            self._number += 1
            self._renewed.clear()
            with suppress(ClientError, OSError):
                await socket.send_bytes(encode(Renew(self._number, True)))
            await asyncio.gather(self._renewed.wait(), asyncio.sleep(RENEW_EVERY))
