"""The demo: an environment to try things with, made through the admin API like any other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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


def demo_bindings(bindings: Iterable[Binding]) -> tuple[Binding, ...]:
    """``bindings``, and this machine itself to the demo unless they say otherwise."""
    chosen = tuple(bindings)
    taken = {binding.network for binding in chosen}
    return (*chosen, *(Binding(network, DEMO) for network in _LOOPBACK if network not in taken))


def load_demo(client: Client, platform: Platform) -> int:
    """Makes the demo be there, whole, beside whatever else was put into it; gives its revision then.

    Raises what ``client`` raises.
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
