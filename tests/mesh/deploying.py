"""Deploys: a new workload is attached on one host, and at once a client on another host connects to its name, once."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from tests.clients.builds import Build
from tests.mesh.members import instance_name
from tests.mesh.mesh import Node
from tests.mesh.talking import ConnectionTimes, Reply, Talker, talking
from tests.mesh.topology import Workload
from tests.waiting import scaled

# ms for the connection: look-up, handshake and an octet; the client repeats none of them.
CONNECT_TIMEOUT = round(scaled(1000))


@dataclass(frozen=True, slots=True)
class Deploy:
    """One deploy, and the first connection after it. The programs on both ends were running before.

    ``attached`` and ``reached`` are milliseconds from the request to attach to its answer, and to the first octet that
    the client received. ``steps`` has the agent's own times, in milliseconds; ``found`` what the client reports.
    """

    name: str
    workload: Workload
    attached: float
    reached: float
    steps: Mapping[str, float]
    found: ConnectionTimes | Reply

    @property
    def is_reached(self) -> bool:
        """Whether the first connection was to the new workload, and succeeded."""
        return isinstance(self.found, ConnectionTimes) and self.found.address == self.workload.address

    def __str__(self) -> str:
        return f"{self.name}: {self.found if isinstance(self.found, ConnectionTimes) else self.found.text}"


@contextmanager
def deployed(
    node: Node,
    environment: str,
    service: str,
    instance: str,
    client: Talker,
    build: Build,
    name: str = "",
    *,
    barrier: bool = True,
) -> Iterator[Deploy]:
    """A deploy on ``node``; then ``client`` connects to ``name``, by default the instance's.

    The workload is detached and removed at the end. Raises `agent.control.client.Refusal` and `NoAgent`.
    """
    name = name or instance_name(service, instance)
    workload = node.workload()
    try:
        with talking(workload, build) as server:
            server.serve()
            began = time.monotonic()
            node.attach(environment, service, instance, workload, barrier=barrier)
            attached = time.monotonic()
            found = client.tcp(name, timeout=CONNECT_TIMEOUT)
            ended = time.monotonic()
            try:
                steps = workload.attach_answer["steps"]
                yield Deploy(name, workload, (attached - began) * 1000, (ended - began) * 1000, steps, found)
            finally:
                node.detach(environment, service, instance)
    finally:
        workload.remove()
