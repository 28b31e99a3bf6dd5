"""Enrolment: once, by a token from an operator, this host gets its credential.

authority    fetched from whoever answers, and believed because the token has its digest
enrolment    the token and a certificate signing request, to a control plane that the authority has certified
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import ssl
from collections.abc import Sequence

import aiohttp
import msgspec

from agent.control_plane.credential import CredentialFiles, HostKey, trusting
from agent.control_plane.errors import ControlPlaneError, NotAllowed, Unavailable
from agent.control_plane.reasons import reason_of
from agent.errors import CannotStart
from watcher.session.protocol import (
    AUTHORITY_PATH,
    CONTROL_PLANE_NAME,
    ENROLMENT_PATH,
    Enrolled,
    Enrolment,
)
from watcher.session.token import EnrolmentToken

DEADLINE = 10.0  # seconds for each of the two requests
ATTEMPTS_EVERY = 1.0  # seconds between two attempts; a host often boots before its control plane
ATTEMPTS = 30  # then it is said why, and whoever started the agent may start it again
LARGEST = 65_536  # octets of a reply that is read

log = logging.getLogger(__name__)


async def enrol(urls: Sequence[str], host: str, token: EnrolmentToken, files: CredentialFiles) -> None:
    """Enrols this host as ``host`` at the first of ``urls`` that answers. Raises `CannotStart`."""
    key = await asyncio.to_thread(HostKey.make, host)
    for attempt in range(ATTEMPTS):
        for url in urls:
            try:
                certificate = await _enrol_at(url, host, token, key, files)
            except Unavailable as error:
                reason = str(error)
                log.warning("control_plane_unavailable", extra={"url": url, "reason": reason})
            except ControlPlaneError as error:
                raise CannotStart(f"{url} does not enrol this host as {host!r}: {error}") from None
            else:
                await _keep(files, key, certificate)
                log.info("enrolled", extra={"host": host, "url": url})
                return
        if attempt + 1 < ATTEMPTS:
            await asyncio.sleep(ATTEMPTS_EVERY)
    raise CannotStart(f"no control plane could be asked to enrol this host: {reason}")


async def _keep(files: CredentialFiles, key: HostKey, certificate: str) -> None:
    try:
        await asyncio.to_thread(files.keep, key, certificate)
    except OSError as error:
        raise CannotStart(
            f"the credential cannot be kept in {files.directory}: {error.strerror}: its token is used up, so enrol"
            " this host anew"
        ) from None


async def _make_room(files: CredentialFiles, authority: str) -> None:
    try:
        await asyncio.to_thread(files.make_room, authority)
    except OSError as error:
        raise CannotStart(f"the credential cannot be kept in {files.directory}: {error.strerror}") from None


async def _enrol_at(url: str, host: str, token: EnrolmentToken, key: HostKey, files: CredentialFiles) -> str:
    """The certificate of ``host``, for which there is room in ``files``. Raises `ControlPlaneError`."""
    timeout = aiohttp.ClientTimeout(total=DEADLINE)
    try:
        async with aiohttp.ClientSession(timeout=timeout) as http:
            authority = await _authority(http, url, token)
            await _make_room(files, authority)
            body = msgspec.json.encode(Enrolment(host, str(token), key.request))
            async with http.post(
                url + ENROLMENT_PATH,
                data=body,
                headers={"Content-Type": "application/json"},
                ssl=trusting(authority),
                server_hostname=CONTROL_PLANE_NAME,
                allow_redirects=False,
            ) as reply:
                read = await reply.content.read(LARGEST)
                if reply.status != 200:
                    raise _refusal(reply.status, read)
                return msgspec.json.decode(read, type=Enrolled).certificate
    except aiohttp.ClientConnectorCertificateError as error:
        raise NotAllowed(
            f"it is no control plane of the platform that made the token: {reason_of(error)}: is --api right?"
        ) from None
    except TimeoutError:
        raise Unavailable(f"no answer within {DEADLINE:g} s") from None
    except (aiohttp.ClientError, OSError) as error:
        raise Unavailable(reason_of(error)) from None
    except ValueError as error:  # msgspec's errors are
        raise NotAllowed(f"it sent what is no reply: {error}") from None


async def _authority(http: aiohttp.ClientSession, url: str, token: EnrolmentToken) -> str:
    """The certificate of the authority, in PEM: whoever sends it, it is the one that ``token`` names."""
    async with http.get(url + AUTHORITY_PATH, ssl=False, allow_redirects=False) as reply:
        read = await reply.content.read(LARGEST)
        if reply.status != 200:
            raise _refusal(reply.status, read)
    pem = read.decode("ascii")
    if hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).digest() != token.authority:
        raise NotAllowed("its authority is not the one that made the token: is it a control plane of this platform?")
    return pem


class _Problem(msgspec.Struct, frozen=True):
    """A problem document (RFC 9457), as far as it is shown."""

    title: str = ""
    detail: str = ""


def _refusal(status: int, read: bytes) -> ControlPlaneError:
    try:
        problem = msgspec.json.decode(read, type=_Problem)
    except msgspec.DecodeError:
        problem = _Problem()
    text = problem.detail or problem.title or f"it answered with status {status}"
    return Unavailable(text) if status >= 500 or status == 429 else NotAllowed(text)
