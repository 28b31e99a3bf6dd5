"""A protocol around that of the HTTP server: what counts connections sees their beginning and end, and no octet."""

from __future__ import annotations

import asyncio


class WrappingProtocol(asyncio.Protocol):
    """Passes on to ``inner`` all that happens on a connection, but for what a subclass does itself."""

    def __init__(self, inner: asyncio.Protocol) -> None:
        self._inner = inner

    def data_received(self, data: bytes) -> None:
        """Passes it on."""
        self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        """Passes it on."""
        return self._inner.eof_received()

    def pause_writing(self) -> None:
        """Passes it on."""
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        """Passes it on."""
        self._inner.resume_writing()
