"""An environment of the API as a document that `apply` takes, and that changes nothing where it came from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from interlock.manifest.nodes import write

HEAD = """\
# Made by 'interlock export'. 'interlock apply -f FILE' makes environments as they are here: what is left out stays as
# it is, and what is given is all that there is to be. Instances on hosts belong to the agents of those hosts, and are
# not here; neither are addresses, which an environment gets when it is made, nor tokens and quotas.
"""


def written(environments: Iterable[Mapping[str, Any]]) -> str:
    """``environments``, as the API shows them, in YAML."""
    return HEAD + write({"environments": {one["id"]: _environment(one) for one in environments}})


def _environment(environment: Mapping[str, Any]) -> dict[str, Any]:
    records: dict[str, dict[str, Any]] = {}
    for one in environment["records"]:
        records.setdefault(one["name"], {})[one["type"]] = {"ttl": one["ttl"], "values": list(one["values"])}
    return {
        "enabled": environment["enabled"],
        "isolated": environment.get("isolated", False),
        "services": {one["name"]: _service(one) for one in environment["services"]},
        "records": records,
        "peers": {
            one["id"]: {"public_key": one["public_key"], "gateway": one["gateway"]} for one in environment["peers"]
        },
    }


def _service(service: Mapping[str, Any]) -> dict[str, Any]:
    ports = [f"{one['name']}:{one['number']}/{one['protocol']}" for one in service["ports"]]
    instances = {one["id"]: _instance(one) for one in service["instances"] if one["host"] is None}
    return {"ports": ports} | ({"instances": instances} if instances else {})


def _instance(instance: Mapping[str, Any]) -> dict[str, Any]:
    region = {"region": instance["region"]} if instance["region"] else {}
    return {"state": instance["state"], **region}
