"""Forwarded replies as they were last packed: most of what a cached answer costs is packing it.

The forwarder gives one and the same `Reply` object for as long as its TTLs hold still, a second. So what was packed of
it is right for as long as that object is the one to be said, and needs no other invalidation.
"""

from __future__ import annotations

from collections.abc import Hashable

from resolver.wire.messages import Reply

SIZE = 8 << 20  # octets; a second's worth of answers, for what was packed longer ago is never asked for again
SMALLEST = 1024  # octets that a packed reply counts at least: what its Python objects take


class PackedReplies:
    """Packed replies, without their ID. When `SIZE` is reached all are forgotten."""

    def __init__(self) -> None:
        self._packed: dict[Hashable, tuple[Reply, bytes]] = {}
        self._octets = 0

    def get(self, reply: Reply, meaning: Hashable) -> bytes | None:
        """What was packed of this very ``reply`` for a query of this ``meaning``."""
        # The object is kept, so no other can have its place in memory.
        kept = self._packed.get((id(reply), meaning))
        return kept[1] if kept else None

    def put(self, reply: Reply, meaning: Hashable, packed: bytes) -> None:
        self._octets += max(SMALLEST, len(packed))
        if self._octets > SIZE:
            self._packed.clear()
            self._octets = max(SMALLEST, len(packed))
        self._packed[id(reply), meaning] = reply, packed
