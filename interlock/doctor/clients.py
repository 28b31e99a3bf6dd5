"""Judges a client: whose address it is, which environment it belongs to, and so what it is answered."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address

from interlock.doctor.marks import Mark, broken, ok, warning
from zones.addresses import Platform, network_of, resolver_address
from zones.model import Environment


@dataclass(frozen=True, slots=True)
class Client:
    """A client as an environment's document has it."""

    name: str
    """The instance, or the external peer, in words."""
    address: str
    """Its address."""
    host: str | None
    """The host that it runs on, or connects to; None if that is not known."""


def client_network(address: str, platform: Platform) -> str | None:
    """The network of the environment that ``address`` would belong to; None if it is not one of the platform's."""
    parsed = ip_address(address)
    if not isinstance(parsed, IPv6Address) or parsed not in platform.prefix or parsed in platform.infrastructure:
        return None
    return str(network_of(int(parsed)))


def find_client(environment: Environment, source: str) -> Client | None:
    """The client that ``source`` names, by address or by name (``a1.api``, or a peer's id); None if there is none."""
    for service, one in environment.services.items():
        for id_, instance in one.instances.items():
            if source in (str(instance.address), f"{id_}.{service}"):
                return Client(f"instance {id_}.{service} of {environment.id}", str(instance.address), instance.host)
    for id_, peer in environment.peers.items():
        if source in (str(peer.address), id_):
            return Client(f"external peer {id_} of {environment.id}", str(peer.address), peer.gateway)
    one_service = environment.services.get(source)
    for id_, instance in one_service.instances.items() if one_service else ():
        return Client(f"instance {id_}.{source} of {environment.id}", str(instance.address), instance.host)
    return None


def is_address(text: str) -> bool:
    """Whether ``text`` is an IP address."""
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def judge_client(source: str, environment: Environment, client: Client | None, owner: str | None) -> Mark:
    """The mark of ``source``, a client of ``environment``; ``owner`` is the environment that its address belongs to."""
    id_ = environment.id
    if client:
        return ok("client", f"{source} is {client.name}" + (f", on host {client.host}" if client.host else ""))
    if not is_address(source):
        return broken(
            "client",
            f"{id_} has no instance and no external peer {source}",
            f"interlock instance list SERVICE -e {id_}; name it as INSTANCE.SERVICE, or by its address",
        )
    if ip_address(source) in environment.network:
        own = str(resolver_address(environment.network))
        return warning(
            "client",
            f"{source} is in the network of {id_}, and is the address of none of its instances and peers"
            + (": it is its resolver's" if source == own else ""),
            f"interlock instance list SERVICE -e {id_}",
        )
    if owner is not None:
        return broken(
            "client",
            f"{source} belongs to the environment {owner}, so it is answered the names of that one and none of {id_}",
            f"ask from an instance of {id_}, or look at it with -e {owner}",
        )
    return judge_stranger(source)


def judge_stranger(source: str) -> Mark:
    """The mark of a client whose address is in no environment."""
    return broken(
        "client",
        f"{source} belongs to no environment, so every query from it is refused (REFUSED)",
        "attach the workload: interlock attach -e ENVIRONMENT --service NAME --instance ID --netns NAME; or, where"
        f" there is no mesh, start the resolver with --bind {source}/{128 if ':' in source else 32}=ENVIRONMENT",
    )
