"""The data that is served: environments of any size, and the same names as zone files and as queries."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable, Iterator
from pathlib import Path

from store.keys import DEFAULT_PREFIX
from store.store import Store
from zones.addresses import Platform, instance_address, service_subnet
from zones.model import Environment, Instance, Port, Service, State
from zones.names import EnvironmentId

PLATFORM = Platform()
APEX = str(PLATFORM.apex).rstrip(".")
ENVIRONMENT = EnvironmentId("bench")
COMMITS_AT_ONCE = 32

_HTTP = Port("http", 8080)
_SEED = 20260  # the same queries in each run


def environment(services: int, instances: int, number: int = 1, id_: EnvironmentId = ENVIRONMENT) -> Environment:
    """An environment of ``services`` services with ``instances`` ready instances each, on network ``number``."""
    network = PLATFORM.environment_network(number)
    made = {}
    for at in range(1, services + 1):
        subnet = service_subnet(network, at)
        running = {
            f"i{host}": Instance(instance_address(subnet, host), State.READY, host="h1", region="eu")
            for host in range(1, instances + 1)
        }
        made[service_name(at)] = Service(subnet, (_HTTP,), running, last_number=instances)
    return Environment(id_, network, revision=1, services=made, last_subnet=services)


def environments(count: int, services: int, instances: int) -> Iterator[Environment]:
    """``count`` environments of the same shape, the first of which is `ENVIRONMENT`."""
    for number in range(1, count + 1):
        yield environment(services, instances, number, ENVIRONMENT if number == 1 else EnvironmentId(f"e{number}"))


def service_name(number: int) -> str:
    return f"svc-{number}"


def fill(url: str, made: Iterable[Environment], prefix: str = DEFAULT_PREFIX) -> None:
    """Commits each of ``made`` to the store at ``url``, as the admin API would."""
    asyncio.run(_commit_all(url, iter(made), prefix))


async def _commit_all(url: str, made: Iterator[Environment], prefix: str) -> None:
    async def commit_some() -> None:
        for each in made:
            await store.environments.commit(each, expected=0)

    store = Store(url, prefix=prefix)
    try:
        await asyncio.gather(*(commit_some() for _ in range(COMMITS_AT_ONCE)))
    finally:
        await store.close()


def write_zone_file(path: Path, of: Environment) -> None:
    """Writes a zone file for other servers, with the names of services and instances that clients of ``of`` see."""
    lines = [
        f"$ORIGIN {APEX}.",
        "@ 5 IN SOA ns hostmaster 1 3600 600 86400 1",
        "@ 5 IN NS ns",
        f"ns 5 IN AAAA {PLATFORM.resolver}",
    ]
    for name, service in of.services.items():
        for id_, instance in service.instances.items():
            lines += [f"{name} 5 IN AAAA {instance.address}", f"{id_}.{name} 5 IN AAAA {instance.address}"]
    path.write_text("\n".join(lines) + "\n")


def write_queries(path: Path, names: int) -> None:
    """Writes queries for dnsperf: each of ``names`` names four times for AAAA and once for A, shuffled."""
    lines = [f"{service_name(at)}.{APEX} {rtype}" for at in range(1, names + 1) for rtype in ["AAAA"] * 4 + ["A"]]
    random.Random(_SEED).shuffle(lines)
    path.write_text("\n".join(lines) + "\n")


def write_unknown_names(path: Path, count: int) -> None:
    """Writes queries for dnsperf: ``count`` different names that no environment has."""
    rng = random.Random(_SEED)
    path.write_text("".join(f"x{at}-{rng.randrange(1 << 32):08x}.{APEX} AAAA\n" for at in range(count)))
