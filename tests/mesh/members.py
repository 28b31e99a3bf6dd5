"""Environments with attached instances in which the test program runs: the tests look at the mesh through them."""

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
"""The host of each instance, by service and instance."""


@dataclass(frozen=True, slots=True)
class Member:
    """An attached instance. ``talkers`` are clients in it, by C library; ``server`` serves, and is a client as well."""

    node: Node
    environment: str
    service: str
    id: str
    workload: Workload
    talkers: Mapping[str, Talker]
    server: Talker

    @property
    def name(self) -> str:
        """Its full name: musl does not append the search domain to a name with a dot."""
        return instance_name(self.service, self.id)

    @property
    def address(self) -> str:
        return self.workload.address


@dataclass(frozen=True, slots=True)
class PopulatedEnvironment:
    """An environment whose instances are attached."""

    id: str
    network: IPv6Network
    members: list[Member]

    def pairs(self) -> Iterator[tuple[Member, Member]]:
        """All pairs of two members, in both directions."""
        return ((one, other) for one in self.members for other in self.members if one is not other)


@contextmanager
def populated(
    mesh: Mesh,
    environment: str,
    layout: Layout,
    programs: Mapping[str, Build],
    attach: Callable[[Node, str, str, str], Workload] = Node.attach,
) -> Iterator[PopulatedEnvironment]:
    """A new environment with the instances of ``layout``, attached by ``attach``; all of it is removed at the end."""
    network = mesh.environment(environment, *layout)
    wanted = [(mesh.nodes[host], service, id_) for service, ids in layout.items() for id_, host in ids.items()]
    with ExitStack() as stack:
        stack.callback(mesh.client.delete, "environments", environment)

        def attach_member(instance: tuple[Node, str, str]) -> Member:
            node, service, id_ = instance
            workload = attach(node, environment, service, id_)
            stack.callback(workload.remove)
            stack.callback(node.detach, environment, service, id_)
            talkers = {library: stack.enter_context(talking(workload, build)) for library, build in programs.items()}
            # One half of the servers is built with one library, one half with the other.
            server = stack.enter_context(talking(workload, programs[("glibc", "musl")[len(id_ + service) % 2]]))
            server.serve()
            return Member(node, environment, service, id_, workload, talkers, server)

        yield PopulatedEnvironment(environment, network, at_once(attach_member, wanted))


def instance_name(service: str, instance: str) -> str:
    """The name of one instance of a service."""
    return f"{instance}.{service}.{ZONE}"


def at_once(function: Callable[[S], T], items: Iterable[S]) -> list[T]:
    """The results of ``function`` for each of ``items``; all calls run at the same time."""
    arguments = list(items)
    with ThreadPoolExecutor(max(1, len(arguments))) as threads:
        return list(threads.map(function, arguments))
