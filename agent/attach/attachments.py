"""The workloads that are attached to this host, kept on its disk: a file each, written whole before anything is done.

So an agent that was killed at any point knows what it has begun, and can finish it or undo it.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
from collections.abc import Iterator
from enum import Enum
from pathlib import Path

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from agent.errors import Failed
from agent.plan.plan import LocalWorkload
from zones import names
from zones.addresses import Address
from zones.document import decode_value, encode_value
from zones.names import EnvironmentId

LINK_PREFIX = "rail"  # the host's ends of the veths: "rail" and eleven hexadecimal digits (IFNAMSIZ: 15 octets)
_DIGITS = 11

log = logging.getLogger(__name__)


class Phase(Enum):
    """How far an attachment is."""

    ATTACHING = "attaching"
    ATTACHED = "attached"
    DETACHING = "detaching"


class Attachment(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A workload: which instance it is, the namespace that it lives in, and what was made for it.

    ``netns`` is the path of its network namespace, ``interface`` its link in there. ``resolv_conf`` is the file that
    was written for it, ``resolv_conf_before`` what that held. ``container`` is what its runtime calls it.
    """

    environment: EnvironmentId
    service: str
    instance: str
    netns: str
    interface: str
    phase: Phase
    address: Address | None = None
    region: str | None = None
    resolv_conf: str | None = None
    resolv_conf_before: str | None = None
    container: str | None = None
    is_draining: bool = False

    def __post_init__(self) -> None:
        names.check_environment_id(self.environment)
        names.check_service_name(self.service)
        names.check_instance_id(self.instance)
        if self.region is not None:
            names.check_region(self.region)

    def __str__(self) -> str:
        return f"{self.instance}.{self.service} of {self.environment}"

    @property
    def key(self) -> str:
        """What tells it from all others of this host."""
        return key_of(self.environment, self.service, self.instance)

    @property
    def link(self) -> str:
        """The name of the host's end of its veth."""
        return LINK_PREFIX + self._digest()[:_DIGITS]

    @property
    def macs(self) -> tuple[str, str]:
        """The MAC addresses of the host's end and of the workload's: locally administered, and always the same."""
        tail = ":".join(self._digest()[at : at + 2] for at in range(20, 30, 2))
        return f"06:{tail}", f"02:{tail}"

    def placed(self, *, is_fresh: bool) -> LocalWorkload | None:
        """Its place in the plan; None while it has no address, or is about to go."""
        if self.address is None or self.phase is Phase.DETACHING:
            return None
        return LocalWorkload(self.link, self.environment, self.address, is_fresh)

    def _digest(self) -> str:
        return hashlib.blake2b(self.key.encode(), digest_size=16).hexdigest()


def key_of(environment: str, service: str, instance: str) -> str:
    """What tells an attachment from all others of its host."""
    return f"{environment}.{service}.{instance}"


class Attachments:
    """The attachments of this host, in ``directory``. All methods raise `Failed` where the disk fails."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._known: dict[str, Attachment] = {}

    def load(self) -> None:
        """Reads what is there. A file that cannot be read is named in the log and left where it is."""
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            for path in sorted(self._directory.glob("*.json")):
                try:
                    attachment = _decoder.decode(path.read_bytes())
                except msgspec.DecodeError as error:
                    log.error("attachment_unreadable", extra={"path": str(path), "reason": str(error)})
                else:
                    self._known[attachment.key] = attachment
        except OSError as error:
            raise Failed(f"the attachments in {self._directory} cannot be read: {error.strerror}") from None

    def __iter__(self) -> Iterator[Attachment]:
        return iter(list(self._known.values()))

    def __len__(self) -> int:
        return len(self._known)

    def get(self, key: str) -> Attachment | None:
        """The attachment ``key``, if there is one."""
        return self._known.get(key)

    def of_container(self, container: str) -> Attachment | None:
        """The attachment of ``container``, if there is one."""
        return next((one for one in self._known.values() if one.container == container), None)

    async def put(self, attachment: Attachment) -> Attachment:
        """Keeps ``attachment`` in the place of the one with its key; returns it once it is on disk."""
        try:
            await asyncio.to_thread(self._write, attachment)
        except OSError as error:
            path = self._path(attachment)
            raise Failed(f"the attachment {path} cannot be kept: {error.strerror}: is the disk full?") from None
        self._known[attachment.key] = attachment
        return attachment

    async def change(self, attachment: Attachment, **fields: object) -> Attachment:
        """Keeps ``attachment`` with other ``fields``; gives it."""
        return await self.put(replace(attachment, **fields))

    async def remove(self, attachment: Attachment) -> None:
        """Forgets ``attachment``."""
        self._known.pop(attachment.key, None)
        try:
            await asyncio.to_thread(self._path(attachment).unlink, missing_ok=True)
        except OSError as error:
            raise Failed(f"the attachment {self._path(attachment)} cannot be removed: {error.strerror}") from None

    def _write(self, attachment: Attachment) -> None:
        path = self._path(attachment)
        partial = path.with_suffix(".part")
        with open(partial, "wb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            file.write(_encoder.encode(attachment))
            file.flush()
            if not path.exists():
                # That there is one is to outlive a power failure, for its record in the store does. A disk may take
                # long for that, so it is asked no more than once.
                os.fsync(file.fileno())
        partial.replace(path)

    def _path(self, attachment: Attachment) -> Path:
        return self._directory / f"{attachment.key}.json"


_encoder = msgspec.json.Encoder(enc_hook=encode_value)
_decoder = msgspec.json.Decoder(Attachment, dec_hook=decode_value)
