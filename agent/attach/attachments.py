"""The attachments of this host, kept on its disk: a file each, written whole before anything is done for the workload.

So an agent that was killed at any point knows what it has begun, and can finish it or undo it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path

import msgspec
from msgspec.structs import replace

from agent.attach.attachment import Attachment
from agent.errors import Failed
from agent.plan.plan import LocalWorkload
from support.files import remove_partials, write_whole
from support.folders import trusted_folder
from zones.document import decode_value, encode_value

log = logging.getLogger(__name__)


class Attachments:
    """The attachments of this host, in ``directory``. All methods raise `Failed` where the disk fails."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._known: dict[str, Attachment] = {}
        self.unreadable: set[str] = set()
        """The keys of the files that could not be read and have not been written since."""

    def load(self) -> None:
        """Reads the attachments from disk. A file that cannot be read is named in the log and left where it is."""
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            with trusted_folder(self._directory.resolve()):
                pass  # who can write an attachment decides whose address a namespace gets
            remove_partials(self._directory)
            for path in sorted(self._directory.glob("*.json")):
                try:
                    attachment = _decoder.decode(path.read_bytes())
                except (msgspec.DecodeError, OSError) as error:  # one bad sector cuts off no other workload
                    log.error("attachment_unreadable", extra={"path": str(path), "reason": str(error)})
                    self.unreadable.add(path.stem)
                else:
                    self._known[attachment.key] = attachment
        except OSError as error:
            raise Failed(f"the attachments in {self._directory} cannot be read: {error.strerror}") from None

    def __iter__(self) -> Iterator[Attachment]:
        return iter(list(self._known.values()))

    def __len__(self) -> int:
        return len(self._known)

    def local_workloads(self) -> Iterator[LocalWorkload]:
        """The workloads that the mesh is to reach: not those without an address, or that are being detached."""
        return (workload for one in self if (workload := one.local_workload))

    def get(self, key: str) -> Attachment | None:
        """The attachment ``key``, if there is one."""
        return self._known.get(key)

    def of_container(self, container: str) -> Attachment | None:
        """The attachment of ``container``, if there is one."""
        return next((one for one in self._known.values() if one.container == container), None)

    async def put(self, attachment: Attachment) -> Attachment:
        """Keeps ``attachment``, and forgets an older one with its key; returns it once it is on disk."""
        try:
            await asyncio.to_thread(self._write, attachment)
        except OSError as error:
            path = self._path(attachment)
            raise Failed(f"the attachment {path} cannot be kept: {error.strerror}: is the disk full?") from None
        self._known[attachment.key] = attachment
        self.unreadable.discard(attachment.key)
        return attachment

    async def change(self, attachment: Attachment, **fields: object) -> Attachment:
        """Keeps ``attachment`` with these ``fields`` changed; gives it."""
        return await self.put(replace(attachment, **fields))

    def change_in_memory(self, attachment: Attachment, **fields: object) -> Attachment:
        """Like `change`, but the disk keeps what it has; for a disk that can take no more."""
        changed = self._known[attachment.key] = replace(attachment, **fields)
        return changed

    async def remove(self, attachment: Attachment) -> None:
        """Forgets ``attachment``."""
        self._known.pop(attachment.key, None)
        try:
            await asyncio.to_thread(self._path(attachment).unlink, missing_ok=True)
        except OSError as error:
            raise Failed(f"the attachment {self._path(attachment)} cannot be removed: {error.strerror}") from None

    def _write(self, attachment: Attachment) -> None:
        path = self._path(attachment)
        # The attachment must survive a power failure, because its record in the store does. A flush may take long, so
        # only the first write is flushed. The rename reaches the disk with the next commit of the journal.
        write_whole(path, _encoder.encode(attachment), 0o600, flush=not path.exists(), flush_folder=False)

    def _path(self, attachment: Attachment) -> Path:
        return self._directory / f"{attachment.key}.json"


_encoder = msgspec.json.Encoder(enc_hook=encode_value)
_decoder = msgspec.json.Decoder(Attachment, dec_hook=decode_value)
