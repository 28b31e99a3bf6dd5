"""The server that the clients meet: the product's resolver with the zones of `world`, run inside a host's namespace.

    python -m tests.clients.server [FAULT]

With the name of a fault (see `faults`) a relay that is wrong on purpose stands before it. "ready" on standard output
says that it listens; it ends when standard input does, so it never outlives who started it.
"""

from __future__ import annotations

import asyncio
import sys
from ipaddress import ip_network

from resolver.forward.forwarder import Forwarder
from resolver.forward.upstream import Routes
from resolver.server import Resolver
from tests.clients import faults, upstream, world
from tests.worlds import PLATFORM, PRODUCTION

_UPSTREAM_PORT = 5301
BEHIND_THE_RELAY = ("::1", 5353)


async def serve(fault: str | None) -> None:
    await upstream.start("127.0.0.1", _UPSTREAM_PORT)
    forwarder = Forwarder(Routes.parse((f"127.0.0.1:{_UPSTREAM_PORT}",)))
    listen = BEHIND_THE_RELAY if fault else (world.RESOLVER, 53)
    resolver = Resolver(PLATFORM, [listen], {ip_network("::1/128"): PRODUCTION}, forwarder)
    await resolver.start()
    for zone in world.zones():
        resolver.publish(zone)
    resolver.loaded()
    if fault:
        await faults.start(fault, BEHIND_THE_RELAY)
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await resolver.stop()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1] if len(sys.argv) > 1 else None))
