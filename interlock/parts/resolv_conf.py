"""The nameservers of this machine's ``resolv.conf`` as upstreams, for as long as the process runs.

A network manager writes the file anew whenever the machine changes its network, and at boot perhaps later than this
process starts. So the file is read again and again. That it is gone or empty says nothing about the nameservers it had:
they stay, until it names others.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from resolver.forward.forwarder import Forwarder
from resolver.forward.upstream import Route, Routes, Upstream, read_resolv_conf
from zones.names import ROOT

INTERVAL = 1.0  # seconds between two reads; less than clients take to give up, and the file is small
LONGEST = 64 << 10  # octets; a resolv.conf has a few lines

log = logging.getLogger(__name__)


@dataclass(slots=True)
class ResolvConf:
    """The file at ``path``, without the addresses in ``own``, which are this resolver itself."""

    path: Path
    own: frozenset[str]
    upstreams: tuple[Upstream, ...] = ()
    """The nameservers that it named last."""
    _content: str | OSError | None = None  # what was read last, or why nothing was

    def read(self) -> Routes | None:
        """The routes for all names, if they are others than at the last call; None if they are not."""
        content = self._read()
        if self._content is not None and str(content) == str(self._content):
            return None
        self._content = content
        found = read_resolv_conf(content, self.own) if isinstance(content, str) else ()
        if not found:
            return self._report_none(content)
        if found == self.upstreams:
            return None
        self.upstreams = found
        log.info("upstreams", extra={"file": str(self.path), "upstreams": [str(upstream) for upstream in found]})
        return Routes((Route(ROOT, found),))

    async def follow(self, forwarder: Forwarder, ready: Callable[[], None]) -> None:
        """Has ``forwarder`` ask the nameservers that the file names, for ever."""
        ready()
        while True:
            await asyncio.sleep(INTERVAL)
            if routes := self.read():
                forwarder.use(routes)

    def _read(self) -> str | OSError:
        try:
            with self.path.open("rb") as file:
                return file.read(LONGEST).decode(errors="replace")
        except OSError as error:
            return error

    def _report_none(self, content: str | OSError) -> Routes | None:
        reason = f"{self.path} names no nameserver, or this resolver alone"
        if isinstance(content, OSError):
            reason = f"{self.path} cannot be read: {content.strerror or content}"
        kept = [str(upstream) for upstream in self.upstreams]
        log.warning("no_upstreams", extra={"reason": reason, "still_used": kept})
        return None if kept else Routes((), missing=f"there is no upstream resolver: {reason}")
