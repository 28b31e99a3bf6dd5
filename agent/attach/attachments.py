"""The attachments of this host, kept on its disk: a file each, written whole before anything is done for the workload.

So an agent that was killed at any point knows what it has begun, and can finish it or undo it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
from msgspec.structs import replace

from agent.attach.attachment import Attachment
from agent.errors import Failed
from agent.plan.plan import LocalWorkload
from agent.system.aside import call_aside
from support.files import flush_file, remove_partials, write_whole
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
        """The workloads that the mesh is to reach, if documents have them: not those without an address."""
        return (workload for one in self if (workload := one.local_workload))

    def get(self, key: str) -> Attachment | None:
        """The attachment ``key``, if there is one."""
        return self._known.get(key)

    def of_container(self, container: str) -> Attachment | None:
        """The attachment of ``container``, if there is one."""
        return next((one for one in self._known.values() if one.container == container), None)

    async def put(self, attachment: Attachment) -> Attachment:
        """Keeps ``attachment``, and forgets an older one with its key; returns it once it is on disk."""

        def write() -> Attachment:
            # The attachment must survive a power failure, because its record in the store does. A flush may take long,
            # so only the first write is flushed. The rename reaches the disk with the next commit of the journal.
            self._write(attachment, flush=not self._path(attachment).exists())
            return attachment

        return await self._put(attachment, write)

    async def begin(self, attachment: Attachment, complete: Callable[[Attachment], Attachment]) -> Attachment:
        """Like `put`, of what ``complete`` gives for ``attachment``; it may read files. `flush` must follow."""

        def write() -> Attachment:
            kept = complete(attachment)
            self._write(kept, flush=False)
            return kept

        return await self._put(attachment, write)

    def flush(self, attachment: Attachment) -> None:
        """Returns once ``attachment``, which was begun, survives a power failure. It may wait for the disk for long."""
        try:
            flush_file(self._path(attachment))
        except OSError as error:
            raise self._not_kept(attachment, error) from None

    async def _put(self, attachment: Attachment, write: Callable[[], Attachment]) -> Attachment:
        try:
            kept = self._known[attachment.key] = await call_aside(write)
        except OSError as error:
            raise self._not_kept(attachment, error) from None
        self.unreadable.discard(attachment.key)
        return kept

    async def change(self, attachment: Attachment, **fields: object) -> Attachment:
        """Keeps ``attachment`` with these ``fields`` changed; gives it."""
        return await self.put(replace(attachment, **fields))

    def change_in_memory(self, attachment: Attachment, **fields: object) -> Attachment:
        """Like `change`, but the disk keeps what it has: it can take no more, or is written soon."""
        changed = self._known[attachment.key] = replace(attachment, **fields)
        return changed

    async def remove(self, attachment: Attachment) -> None:
        """Forgets ``attachment``."""
        self._known.pop(attachment.key, None)
        try:
            await call_aside(lambda: self._path(attachment).unlink(missing_ok=True))
        except OSError as error:
            raise Failed(f"the attachment {self._path(attachment)} cannot be removed: {error.strerror}") from None

    def _not_kept(self, attachment: Attachment, error: OSError) -> Failed:
        return Failed(f"the attachment {self._path(attachment)} cannot be kept: {error.strerror}: is the disk full?")

    def _write(self, attachment: Attachment, *, flush: bool) -> None:
        write_whole(self._path(attachment), _encoder.encode(attachment), 0o600, flush=flush, flush_folder=False)

    def _path(self, attachment: Attachment) -> Path:
        return self._directory / f"{attachment.key}.json"


_encoder = msgspec.json.Encoder(enc_hook=encode_value)
_decoder = msgspec.json.Decoder(Attachment, dec_hook=decode_value)
