"""Environments, hosts and keys for tests of the agent, made from numbers so that each is known again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from agent.attach.attachment import Attachment, Phase
from tests.worlds import public_key as key
from zones.addresses import Address, Platform, instance_address, service_subnet
from zones.hosts import Host
from zones.model import Environment, Instance, Peer, Service, State
from zones.names import EnvironmentId

__all__ = ["ATTACHMENT", "PLATFORM", "address", "environment", "host", "key"]

PLATFORM = Platform()


def host(number: int, **fields: object) -> Host:
    """The host ``h<number>``, with its own key and endpoint."""
    made: Mapping[str, object] = {"next_public_key": None, **fields}
    return Host(f"h{number}", f"192.0.2.{number}:51820", key(number), **made)  # type: ignore[arg-type]


def environment(
    number: int, hosts: Iterable[int], revision: int = 1, peers: Mapping[str, Peer] | None = None
) -> Environment:
    """The environment ``e<number>``, whose service ``api`` has an instance on each of ``hosts``."""
    network = PLATFORM.environment_network(number)
    subnet = service_subnet(network, 1)
    instances = {
        f"a{at}": Instance(instance_address(subnet, at), State.READY, f"h{host_}")
        for at, host_ in enumerate(hosts, start=1)
    }
    service = Service(subnet, instances=instances, last_number=len(instances))
    return Environment(
        id=EnvironmentId(f"e{number}"),
        network=network,
        revision=revision,
        services={"api": service},
        last_subnet=1,
        peers=peers or {},
    )


def address(number: int, at: int) -> Address:
    """The address of the instance ``a<at>`` of the environment ``e<number>``."""
    return instance_address(service_subnet(PLATFORM.environment_network(number), 1), at)


ATTACHMENT = Attachment(
    EnvironmentId("e1"), "api", "a1", "/run/netns/w1", "railnet0", Phase.ATTACHED, address(1, 1), container="c1"
)
