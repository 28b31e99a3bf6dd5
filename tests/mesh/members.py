"""Instances that are attached, with programs in them that talk: what the tests look at the mesh through."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from ipaddress import IPv6Network
from typing import TypeVar

from tests.clients.builds import Build
from tests.mesh.mesh import Mesh, Node
from tests.mesh.talking import Talker, talking
from tests.mesh.topology import Workload

T = TypeVar("T")
S = TypeVar("S")

ZONE = "railway.internal"

Layout = Mapping[str, Mapping[str, str]]
"""By service and instance: the host."""


@dataclass(frozen=True, slots=True)
class Member:
    """An instance that is attached. ``talkers`` are by C library; ``server`` serves, and can be asked beside them."""

    node: Node
    environment: str
    service: str
    id: str
    workload: Workload
    talkers: Mapping[str, Talker]
    server: Talker

    @property
    def name(self) -> str:
        """Its name, whole: musl does not look for one with a dot in it below the search domain."""
        return instance_name(self.service, self.id)

    @property
    def address(self) -> str:
        return self.workload.address


@dataclass(frozen=True, slots=True)
class Settled:
    """An environment with its members."""

    id: str
    network: IPv6Network
    members: list[Member]

    def pairs(self) -> Iterator[tuple[Member, Member]]:
        """All pairs of two, in both directions."""
        return ((one, other) for one in self.members for other in self.members if one is not other)


@contextmanager
def settled(
    mesh: Mesh,
    environment: str,
    layout: Layout,
    programs: Mapping[str, Build],
    attach: Callable[[Node, str, str, str], Workload] = Node.attach,
) -> Iterator[Settled]:
    """A new environment with ``layout``, each instance attached by ``attach``; all of it gone at the end."""
    network = mesh.environment(environment, *layout)
    places = [(mesh.nodes[host], service, id_) for service, ids in layout.items() for id_, host in ids.items()]
    with ExitStack() as stack:
        stack.callback(mesh.client.delete, "environments", environment)

        def settle(place: tuple[Node, str, str]) -> Member:
            node, service, id_ = place
            workload = attach(node, environment, service, id_)
            stack.callback(workload.remove)
            stack.callback(node.detach, environment, service, id_)
            talkers = {library: stack.enter_context(talking(workload, build)) for library, build in programs.items()}
            # Half of them are served by one library, half by the other.
            server = stack.enter_context(talking(workload, programs[("glibc", "musl")[len(id_ + service) % 2]]))
            server.serve()
            return Member(node, environment, service, id_, workload, talkers, server)

        yield Settled(environment, network, at_once(settle, places))


def instance_name(service: str, instance: str) -> str:
    """The name of one instance of a service."""
    return f"{instance}.{service}.{ZONE}"


def at_once(function: Callable[[S], T], items: Iterable[S]) -> list[T]:
    """What ``function`` gives for each of ``items``, all of them called at the same time."""
    given = list(items)
    with ThreadPoolExecutor(max(1, len(given))) as threads:
        return list(threads.map(function, given))
