"""The floor: what Python takes for a query if it does nothing but look the octets up in a dictionary.

``python -m bench.bare PORT NAMES`` answers the queries that `queries` sends, with the sockets' code of the product and
nothing else of it: no scope, no counters, no rotation, no bound, no event loop, and a reply that is never replaced. It
is no name server. Beside it, and beside Knot, a table shows what the features cost, and what the interpreter does.
"""

from __future__ import annotations

import select
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_network
from pathlib import Path

from bench import worlds
from bench.processes import LOOPBACK, Process, free_port, running
from resolver.counts import QueryCounts
from resolver.net.inbox import Inbox
from resolver.net.outbox import Outbox
from resolver.responder import Responder
from resolver.scope import ScopeTable
from resolver.wire.messages import UDP
from zones.zone import compile_zone

NAME = "Python's floor"


@contextmanager
def running_bare(directory: Path, core: int, names: int) -> Iterator[tuple[Process, int]]:
    """The floor on ``core`` with ``names`` services; gives it and its port. Not yet ready."""
    port = free_port()
    command = [sys.executable, "-m", "bench.bare", str(port), str(names)]
    with running("bare", command, directory, core) as process:
        yield process, port


def main(port: int, names: int) -> None:
    """Answers until it is killed."""
    scopes = ScopeTable(worlds.PLATFORM, {ip_network(f"{LOOPBACK}/128"): worlds.ENVIRONMENT})
    scopes.publish(compile_zone(worlds.PLATFORM, worlds.environment(names, 1), 0))
    scopes.is_loaded = True
    source = socket.inet_pton(socket.AF_INET6, LOOPBACK)
    responder, state = Responder(scopes, QueryCounts()), scopes.scope_of(source, source).state
    sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    sock.bind((LOOPBACK, port))
    inbox, replies = Inbox(sock), dict[bytes, bytes]()
    outbox = Outbox.of(inbox, sock)
    while select.select([sock], [], []):
        count = inbox.receive()
        for slot, body in enumerate(inbox.bodies()):
            reply = replies.get(body)
            if reply is None:
                made = responder.respond(inbox.packet(slot), state, UDP)
                assert isinstance(made, bytes)
                reply = replies[body] = made[2:]
            outbox.put(slot, reply)
        outbox.send(0, count)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
