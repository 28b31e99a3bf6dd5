"""Reaching the address of a control plane as soon as the network lets it, after an attempt that has failed.

A host that was cut off does not know when it is connected again. TCP tries again after 1 s, then 2 s, then 4 s; so a
new connection is begun here every `BEGIN_EVERY` seconds, while the ones before it go on, for a way around the world
takes longer than that. Each costs one packet, and only the first that succeeds reaches the control plane's program.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from urllib.parse import urlsplit

from agent.control_plane.errors import Unavailable
from agent.control_plane.reasons import reason_of

BEGIN_EVERY = 0.2  # seconds; the host is to be back within one
HTTPS = 443


async def until_reached(url: str, seconds: float) -> None:
    """Returns once a TCP connection to ``url`` has been made, which is closed again.

    Raises `Unavailable` if that is refused, or after so many ``seconds``.
    """
    parts = urlsplit(url)
    under_way = set[asyncio.Task[None]]()
    reason = f"it has not answered within {seconds:g} s"
    try:
        async with asyncio.timeout(seconds):
            while True:
                under_way.add(asyncio.create_task(_connect(parts.hostname or "", parts.port or HTTPS)))
                ended, under_way = await asyncio.wait(
                    under_way, timeout=BEGIN_EVERY, return_when=asyncio.FIRST_COMPLETED
                )
                errors = [error for task in ended if (error := task.exception())]
                if len(errors) < len(ended):
                    return
                for error in errors:
                    if not isinstance(error, OSError):
                        raise error
                    reason = reason_of(error)
                    if isinstance(error, ConnectionRefusedError):
                        raise Unavailable(reason)
                if errors:
                    await asyncio.sleep(BEGIN_EVERY)  # the host itself knows no way there: that costs no time
    except TimeoutError:
        raise Unavailable(reason) from None
    finally:
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)


async def _connect(host: str, port: int) -> None:
    _, writer = await asyncio.open_connection(host, port)
    writer.transport.abort()
    with suppress(OSError):
        await writer.wait_closed()
