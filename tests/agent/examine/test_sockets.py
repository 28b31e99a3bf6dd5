"""The sockets of this process, as the doctor reads them."""

from __future__ import annotations

import os
import socket

from agent.examine.sockets import name_owners, processes_inside, read_listeners


def test_what_listens_is_named_with_its_address_and_its_process() -> None:
    with (
        socket.create_server(("0.0.0.0", 0)) as v4,
        socket.create_server(("::1", 0), family=socket.AF_INET6) as v6,
        socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as udp,
        socket.create_connection(v6.getsockname()[:2]) as client,
        open("/proc/self/ns/net") as namespace,
    ):
        udp.bind(("::", 0))
        found = {
            (one.protocol, one.address, one.port): one.process
            for one in name_owners(read_listeners(), namespace.fileno())
        }
        mine = f"(process {os.getpid()})"
        assert mine in found["tcp", "0.0.0.0", v4.getsockname()[1]]
        assert mine in found["tcp", "::1", v6.getsockname()[1]]
        assert mine in found["udp", "::", udp.getsockname()[1]]
        assert ("tcp", "::1", client.getsockname()[1]) not in found, "a connection is no listener"
        inside = {path.name for path in processes_inside(os.fstat(namespace.fileno()))}
        assert str(os.getpid()) in inside
