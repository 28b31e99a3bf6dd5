"""A real query to this host's resolver, at the address that workloads have in their `resolv.conf`."""

from __future__ import annotations

import asyncio
import secrets
import socket

from agent.attach.lookup import AAAA, PORT, LookupQuery
from zones.addresses import Address
from zones.names import Name

DEADLINE = 1.0  # seconds; a resolver that is well takes less than one millisecond
RESEND = 0.3  # seconds; a packet may be lost where the socket's queue is full
ID = slice(0, 2)  # where a message has its id

_NAME = Name.parse("localhost")  # answered at once or refused, also before any environment is loaded


async def probe_resolver(resolver: Address) -> str:
    """Why the resolver at ``resolver`` does not answer this host; empty if it does, whatever the answer says."""
    query = LookupQuery(secrets.randbelow(0x10000), _NAME, AAAA).packet
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
        try:
            sock.connect((str(resolver), PORT))
            async with asyncio.timeout(DEADLINE):
                while not await _exchange(loop, sock, query):
                    pass
        except TimeoutError:
            return f"no reply in {DEADLINE:g} s"
        except OSError as error:
            return error.strerror or str(error)
    return ""


async def _exchange(loop: asyncio.AbstractEventLoop, sock: socket.socket, query: bytes) -> bool:
    await loop.sock_sendall(sock, query)
    try:
        async with asyncio.timeout(RESEND):
            while (await loop.sock_recv(sock, 512))[ID] != query[ID]:
                pass
    except TimeoutError:
        return False
    return True
