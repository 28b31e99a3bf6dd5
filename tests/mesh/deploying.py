"""Deploys: a new workload is attached on one host, and at once, and only once, one on another connects to its name."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from tests.clients.builds import Build
from tests.mesh.members import instance_name
from tests.mesh.mesh import Node
from tests.mesh.talking import Said, Talker, Times, talking
from tests.mesh.topology import Workload

PATIENCE = 1000  # ms for the connection: look-up, handshake and an octet, none of which is tried again


@dataclass(frozen=True, slots=True)
class Deploy:
    """``attached`` and ``reached`` are milliseconds since the request to attach: its answer, and the first octet back.

    The programs on both ends were running before. ``steps`` are the agent's own, ``found`` what the client says.
    """

    name: str
    workload: Workload
    attached: float
    reached: float
    steps: Mapping[str, float]
    found: Times | Said

    @property
    def is_reached(self) -> bool:
        """Whether the first connection was to the new workload, and succeeded."""
        return isinstance(self.found, Times) and self.found.address == self.workload.address

    def __str__(self) -> str:
        return f"{self.name}: {self.found if isinstance(self.found, Times) else self.found.text}"


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
    """A deploy on ``node``, whose ``name`` (the instance's if not given) ``client`` then connects to.

    The workload is detached and gone at the end. Raises `agent.control.client.Refusal` and `NoAgent`.
    """
    name = name or instance_name(service, instance)
    workload = node.workload()
    try:
        with talking(workload, build) as server:
            server.serve()
            began = time.monotonic()
            node.attach(environment, service, instance, workload, barrier=barrier)
            attached = time.monotonic()
            found = client.tcp(name, patience=PATIENCE)
            ended = time.monotonic()
            try:
                steps = workload.place["steps"]
                yield Deploy(name, workload, (attached - began) * 1000, (ended - began) * 1000, steps, found)
            finally:
                node.detach(environment, service, instance)
    finally:
        workload.remove()
