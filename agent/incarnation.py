"""The incarnation of this agent: what tells it from one that was given a copy of its state directory.

It is kept on the disk, so that an agent that is started again is the same host at once. With it is kept the place that
it belongs to, the network namespace of the host, which is never copied and does not outlive a reboot: in another place
the agent is another incarnation.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from pathlib import Path

import msgspec
from msgspec import Struct

from agent.errors import CannotStart
from agent.system.namespaces import OWN_NAMESPACE, NamespaceId, identify, opened
from support.files import remove_partial, write_whole

FILE = "incarnation.json"

log = logging.getLogger(__name__)


class _Kept(Struct, frozen=True):
    """What is on the disk."""

    incarnation: str
    """One word, drawn by lot."""
    place: NamespaceId
    """The host's network namespace when it was drawn."""


async def load_incarnation(directory: Path) -> tuple[str, bool]:
    """The incarnation of the agent whose state directory is ``directory``, and whether it is that of its predecessor.

    It is drawn by lot where there is none for this place.

    Raises `CannotStart`.
    """
    try:
        with opened(OWN_NAMESPACE) as namespace:
            place = await identify(namespace)
    except OSError as error:
        raise CannotStart(f"the network namespace of this host cannot be told: {error.strerror}") from None
    path = directory / FILE
    await asyncio.to_thread(remove_partial, path)
    kept = await asyncio.to_thread(_read, path)
    if kept is not None and kept.place == place:
        return kept.incarnation, True
    drawn = _Kept(secrets.token_hex(8), place)
    try:
        await asyncio.to_thread(write_whole, path, msgspec.json.encode(drawn), 0o600)
    except OSError as error:
        # It is good for as long as this agent runs; the next one has to wait for the end of its lease.
        log.warning("incarnation_not_kept", extra={"path": str(path), "reason": error.strerror})
    return drawn.incarnation, False


def remove_incarnation(directory: Path) -> None:
    """Removes the incarnation from the disk."""
    (directory / FILE).unlink(missing_ok=True)


def _read(path: Path) -> _Kept | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Kept)
    except (OSError, ValueError):
        return None
