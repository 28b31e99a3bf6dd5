"""Forwarded replies as they were packed: most of what a cached answer costs is packing it.

The forwarder gives one and the same `Reply` for as long as its TTLs do not change, a second. So the reply carries the
octets that were packed from it, and they need no invalidation; here they are counted, so that there are not too many.
"""

from __future__ import annotations

from collections.abc import Hashable

from resolver.wire.messages import Reply

SIZE = 8 << 20  # octets; a second's worth of answers, for a reply is not given again after its second
SMALLEST = 1024  # octets that a packed reply counts at least: what its Python objects take


class PackedReplies:
    """The octets that replies carry, without their ID. When there are more than `SIZE`, all are dropped."""

    def __init__(self) -> None:
        self._filled: list[dict[Hashable, bytes]] = []
        self._octets = 0

    def get(self, reply: Reply, meaning: Hashable) -> bytes | None:
        """What was packed from ``reply`` for a query with this ``meaning``."""
        return reply.packed.get(meaning)

    def put(self, reply: Reply, meaning: Hashable, packed: bytes) -> None:
        """Has ``reply`` carry ``packed`` for queries with this ``meaning``."""
        self._octets += max(SMALLEST, len(packed))
        if self._octets > SIZE:
            for octets in self._filled:
                octets.clear()
            self._filled.clear()
            self._octets = max(SMALLEST, len(packed))
        if not reply.packed:
            self._filled.append(reply.packed)
        reply.packed[meaning] = packed
