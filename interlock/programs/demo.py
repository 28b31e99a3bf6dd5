"""The demo: an example environment, made through the admin API like any other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any

from interlock.client import Client
from interlock.settings.values import Binding
from zones.addresses import Platform
from zones.names import EnvironmentId

DEMO = EnvironmentId("demo")

_LOOPBACK = (ip_network("127.0.0.1/32"), ip_network("::1/128"))
_INSTANCES = {"api": ("api-1", "api-2"), "web": ("web-1",), "postgres": ("postgres-1",)}
_PORTS = {"api": {"ports": [{"name": "http", "number": 8080, "protocol": "tcp"}]}}


@dataclass(slots=True)
class DemoLoading:
    """Whether this process has loaded the demo."""

    obstacle: str = "the demo is not loaded yet"
    """Why its names are not answered; empty once they are."""


def demo_bindings(bindings: Iterable[Binding]) -> tuple[Binding, ...]:
    """``bindings``, and this machine's own addresses bound to the demo unless ``bindings`` has them."""
    chosen = tuple(bindings)
    taken = {binding.network for binding in chosen}
    return (*chosen, *(Binding(network, DEMO) for network in _LOOPBACK if network not in taken))


def load_demo(client: Client, platform: Platform) -> int:
    """Creates the demo, or adds to an existing one what it lacks; gives its revision.

    Raises the errors of ``client``.
    """
    client.put("environments", DEMO, body={"enabled": True})
    done = client.post("environments", DEMO, "batch", body={"edits": list(_edits(platform))})
    revision: int = done["revision"]
    return revision


def _edits(platform: Platform) -> Iterable[Mapping[str, Any]]:
    for service, instances in _INSTANCES.items():
        yield {"op": "put-service", "name": service, **_PORTS.get(service, {})}
        for instance in instances:
            yield {"op": "put-instance", "service": service, "id": instance, "state": "ready"}
    target = str(platform.apex.child("postgres"))
    yield {"op": "put-record", "name": "db", "type": "CNAME", "ttl": 60, "values": [target]}
