"""How a host shows the control plane that it is that host: the platform's authority, and a credential for each host.

    invite     an administrator lets a host in: an enrolment, which can be used once and ends by itself
    enrol      the host uses it up, and has a credential: the fingerprint of its public key
    prepare    the host names its next key; the one in use is good until the next one was shown
    promote    the next key was shown: it is the one in use
    assign     an administrator changes in which environments the host may place instances

Each change is one entry of the stream, as a change of the host, so all control planes hear of it. What ends a
credential is `store.hosts.HostStore.forget`.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping

import msgspec
from msgspec.structs import replace

from store.changes import CHANGES_KEPT
from store.client import Script
from store.connection import Connection
from store.errors import CredentialChanged, NotInvited
from store.leases import Lease, not_held
from store.scripts import read_script

CHANGE_SCRIPT = Script(read_script("change_credential", shared=("wrong_type", "holds_lease", "append_change")))


class Credential(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a host has to show, and where it may place instances."""

    fingerprint: str
    """SHA-256 of the public key of its certificate (SubjectPublicKeyInfo), in hexadecimal digits."""
    environments: tuple[str, ...] | None = None
    """The environments in which it may place instances. None: all."""
    enrolled: int = 0
    """When the host was enrolled, in Unix milliseconds."""
    next_fingerprint: str = ""
    """The fingerprint that replaces ``fingerprint`` as soon as it is shown; empty if there is none."""

    def admits(self, fingerprint: str) -> bool:
        """Whether who shows a key with ``fingerprint`` is the host."""
        return fingerprint in {self.fingerprint, self.next_fingerprint} - {""}


class Enrolment(msgspec.Struct, frozen=True, omit_defaults=True):
    """That a host may enrol, once. A host has one at most."""

    digest: str
    """SHA-256 of the secret that it has to show, in hexadecimal digits."""
    until: int
    """Until when, in Unix milliseconds by the store's clock."""
    environments: tuple[str, ...] | None = None
    """The environments in which it may place instances. None: all."""


class CredentialStore:
    """Reads and writes credentials. All methods raise `store.errors.Unavailable`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._keys = connection.keys

    async def authority(self) -> bytes | None:
        """The platform's authority; None before one was made."""
        async with self._connection.client() as redis:
            found: bytes | None = await redis.get(self._keys.authority)
        return found

    async def add_authority(self, made: bytes) -> bytes:
        """The platform's authority, which is ``made`` if there was none."""
        async with self._connection.client() as redis:
            await redis.set(self._keys.authority, made, nx=True)
            found: bytes = await redis.get(self._keys.authority)
        return found

    async def read(self) -> dict[str, Credential]:
        """Host → credential, of each host whose credential can be read. Any other admits nobody."""
        async with self._connection.client() as redis:
            fields = await redis.hgetall(self._keys.credentials)
        found = {host.decode(errors="replace"): decode_credential(value) for host, value in fields.items()}
        return {host: credential for host, credential in found.items() if credential}

    async def find(self, hosts: Iterable[str]) -> Mapping[str, Credential]:
        """The credentials of those of ``hosts`` that have one that can be read."""
        if not (wanted := list(hosts)):
            return {}
        async with self._connection.client() as redis:
            values = await redis.hmget(self._keys.credentials, wanted)
        found = zip(wanted, map(decode_credential, values), strict=True)
        return {host: credential for host, credential in found if credential}

    async def invite(self, host: str, enrolment: Enrolment) -> None:
        """Lets ``host`` enrol by ``enrolment``, in place of any other one."""
        async with self._connection.client() as redis:
            await redis.hset(self._keys.enrolments, host, msgspec.json.encode(enrolment))

    async def enrolments(self) -> dict[str, Enrolment]:
        """Host → the enrolment that it has not used yet, be its time over or not."""
        async with self._connection.client() as redis:
            fields = await redis.hgetall(self._keys.enrolments)
        found = {host.decode(errors="replace"): _decode_enrolment(value) for host, value in fields.items()}
        return {host: enrolment for host, enrolment in found.items() if enrolment}

    async def enrol(self, host: str, digest: str, fingerprint: str, now: int) -> Credential:
        """Gives ``host`` the credential ``fingerprint``, and uses up its enrolment, which has ``digest``.

        ``now`` is the store's time, in Unix milliseconds. Raises `NotInvited`.
        """
        async with self._connection.client() as redis:
            written = await redis.hget(self._keys.enrolments, host)
        enrolment = _decode_enrolment(written)
        if enrolment is None or enrolment.digest != digest or enrolment.until <= now:
            raise _not_invited(host)
        credential = Credential(fingerprint, enrolment.environments, now)
        if await self._write(host, credential, used=written) != b"ok":
            raise _not_invited(host)  # somebody was first, with the same token
        return credential

    async def prepare(self, lease: Lease, shown: str, fingerprint: str) -> None:
        """Makes ``fingerprint`` the next one of the host that holds ``lease``, which has ``shown`` one that is good.

        Raises `CredentialChanged`, and `store.errors.LeaseNotHeld`.
        """
        before = await self._require(lease.host, shown)
        await self._replace(lease.host, before, replace(before, next_fingerprint=fingerprint), lease)

    async def promote(self, host: str, shown: str) -> Credential:
        """The credential of ``host``, which has ``shown`` a fingerprint: the next one becomes the one in use.

        Raises `CredentialChanged`.
        """
        before = await self._require(host, shown)
        if before.next_fingerprint != shown:
            return before
        after = replace(before, fingerprint=shown, next_fingerprint="")
        await self._replace(host, before, after)
        return after

    async def assign(self, host: str, environments: tuple[str, ...] | None) -> bool:
        """Changes in which environments ``host`` may place instances (None: all); False if it has no credential.

        Raises `CredentialChanged`.
        """
        before = (await self.find([host])).get(host)
        if before is None:
            return False
        if before.environments != environments:
            await self._replace(host, before, replace(before, environments=environments))
        return True

    async def _require(self, host: str, shown: str) -> Credential:
        found = (await self.find([host])).get(host)
        if found is None or not found.admits(shown):
            raise CredentialChanged(f"the credential of the host {host!r} is not the one that was shown, any more")
        return found

    async def _replace(self, host: str, before: Credential, after: Credential, lease: Lease | None = None) -> None:
        outcome = await self._write(host, after, before=msgspec.json.encode(before), lease=lease)
        if outcome == b"lease":
            raise not_held(lease)
        if outcome != b"ok":
            raise CredentialChanged(f"the credential of the host {host!r} was changed by somebody else just now")

    async def _write(
        self, host: str, after: Credential, *, before: bytes = b"", used: bytes = b"", lease: Lease | None = None
    ) -> bytes:
        keys = self._keys
        outcome: bytes = await self._connection.write(
            CHANGE_SCRIPT,
            [
                keys.epoch,
                keys.credentials,
                keys.hosts_revision,
                keys.changes,
                keys.enrolments,
                keys.lease(host),
            ],
            [
                host,
                msgspec.json.encode(after),
                before,
                used,
                lease.incarnation if lease else "",
                secrets.token_hex(8),
                CHANGES_KEPT,
            ],
        )
        return outcome


def decode_credential(value: bytes | None) -> Credential | None:
    """The credential that ``value`` describes; None if there is none, or it cannot be read."""
    try:
        return msgspec.json.decode(value, type=Credential) if value else None
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _decode_enrolment(value: bytes | None) -> Enrolment | None:
    try:
        return msgspec.json.decode(value, type=Enrolment) if value else None
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _not_invited(host: str) -> NotInvited:
    return NotInvited(
        f"this token does not enrol the host {host!r}: it was used already, or replaced, or its time is over. Make"
        f" another one with 'interlock host enrol {host}'"
    )
