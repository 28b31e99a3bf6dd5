"""Environments as a document says that they should be.

    environments:
      production:
        isolated: false
        services:
          api:
            ports: [http:8080/tcp]
            instances:
              a1: {region: eu}
        records:
          db:
            CNAME: {ttl: 60, values: [api.railway.internal.]}
        peers:
          laptop: {public_key: mK7k…=, gateway: h1}

What is left out stays as it is: `services` without `instances` says nothing of instances. What is given is all that
there is to be of it, so a service that `services` does not name is deleted. An instance on a host belongs to the agent
of that host, and is neither changed nor deleted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from interlock.manifest.nodes import Node, read
from zones.errors import ZonesError
from zones.keys import check_public_key
from zones.model import State, check_record_name
from zones.names import (
    check_environment_id,
    check_host_id,
    check_instance_id,
    check_peer_id,
    check_port_name,
    check_region,
    check_service_name,
)
from zones.records import RECORD_TYPES, RRType, parse_rdata

DEFAULT_TTL = 60  # seconds; that of `interlock record put`
PORT = re.compile(r"([^:/]+):([0-9]{1,5})(?:/(tcp|udp))?")


@dataclass(frozen=True, slots=True)
class Part:
    """A part of an environment as it should be."""

    fields: Mapping[str, Any]
    """The fields that are given, as the API has them."""
    line: int
    """The line of the document that says so."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """An environment as it should be. A kind of part is None where the document says nothing of it."""

    id: str
    """The id."""
    line: int
    """The line of the document that names it."""
    fields: Mapping[str, bool]
    """``enabled`` and ``isolated``, where they are given."""
    services: Mapping[str, Part] | None
    """The services, by name."""
    instances: Mapping[str, Mapping[str, Part]]
    """The instances by id, of each service for which they are given."""
    records: Mapping[tuple[str, str], Part] | None
    """The record sets, by name and type."""
    peers: Mapping[str, Part] | None
    """The external peers, by id."""


def wanted(text: str, file: str) -> list[Wanted]:
    """The environments that ``text`` wants, the document called ``file``. Raises `interlock.errors.BadManifest`."""
    found: dict[str, Wanted] = {}
    for document in read(text, file):
        for id_, node in document.mapping("the document", "environments").items():
            for name, environment in node.mapping(id_).items():
                if name in found:
                    raise environment.error(f"the environment {name!r} is on line {found[name].line} already")
                found[name] = _environment(name, environment)
    if not found:
        raise Node(None, 1, file).error("there are no environments: write 'environments:' and their names below it")
    return list(found.values())


def _environment(id_: str, node: Node) -> Wanted:
    _check(node, check_environment_id, id_)
    given = node.mapping("an environment", "enabled", "isolated", "services", "records", "peers")
    services = given.get("services")
    return Wanted(
        id_,
        node.line,
        {name: given[name].switch(f"{name!r}") for name in ("enabled", "isolated") if name in given},
        None if services is None else {name: _service(name, one) for name, one in _named(services, "services")},
        {} if services is None else dict(_instances(services)),
        None if "records" not in given else dict(_records(given["records"])),
        None if "peers" not in given else {name: _peer(name, one) for name, one in _named(given["peers"], "peers")},
    )


def _named(node: Node, what: str) -> Iterable[tuple[str, Node]]:
    return node.mapping(f"{what!r}").items()


def _service(name: str, node: Node) -> Part:
    _check(node, check_service_name, name)
    given = node.mapping("a service", "ports", "instances")
    ports = {"ports": [_port(one) for one in given["ports"].sequence("'ports'")]} if "ports" in given else {}
    return Part(ports, node.line)


def _port(node: Node) -> dict[str, Any]:
    found = PORT.fullmatch(node.text("a port"))
    if found is None:
        raise node.error(f"{node.value!r} is not NAME:NUMBER/PROTOCOL: write it as in http:8080/tcp")
    _check(node, check_port_name, found[1])
    return {"name": found[1], "number": int(found[2]), "protocol": found[3] or "tcp"}


def _instances(services: Node) -> Iterator[tuple[str, dict[str, Part]]]:
    for name, service in _named(services, "services"):
        if instances := service.mapping("a service").get("instances"):
            yield name, {id_: _instance(id_, one) for id_, one in _named(instances, "instances")}


def _instance(id_: str, node: Node) -> Part:
    _check(node, check_instance_id, id_)
    given = node.mapping("an instance", "state", "region")
    fields = {name: one.text(f"{name!r}") for name, one in given.items()}
    if fields.get("state", State.READY.value) not in [state.value for state in State]:
        raise given["state"].error(f"{fields['state']!r} is no state: write {', '.join(one.value for one in State)}")
    if "region" in fields:
        _check(given["region"], check_region, fields["region"])
    return Part({"state": State.READY.value, "region": None} | fields, node.line)


def _records(node: Node) -> Iterator[tuple[tuple[str, str], Part]]:
    for name, types in _named(node, "records"):
        _check(types, check_record_name, name)
        for rtype, one in types.mapping(f"the records of {name!r}", *RECORD_TYPES).items():
            given = one.mapping("a record", "ttl", "values") if isinstance(one.value, dict) else {"values": one}
            if "values" not in given:
                raise one.error(f"the record {name!r} {rtype} has no 'values'")
            values = given["values"].sequence("'values'")
            for value in values:
                _check(value, lambda text, of=RRType[rtype]: parse_rdata(of, text), value.text("a value"))
            ttl = given["ttl"].number("'ttl'") if "ttl" in given else DEFAULT_TTL
            yield (name, rtype), Part({"ttl": ttl, "values": [str(value.value) for value in values]}, one.line)


def _peer(id_: str, node: Node) -> Part:
    _check(node, check_peer_id, id_)
    given = node.mapping("a peer", "public_key", "gateway")
    if "public_key" not in given:
        raise node.error(f"the peer {id_!r} has no 'public_key': 'wg genkey | tee private.key | wg pubkey' makes one")
    for name, check in (("public_key", check_public_key), ("gateway", check_host_id)):
        if name in given:
            _check(given[name], check, given[name].text(f"{name!r}"))
    return Part({name: one.text(f"{name!r}") for name, one in given.items()}, node.line)


def _check(node: Node, check: Any, text: str) -> None:
    with _at(node):
        check(text)


@contextmanager
def _at(node: Node) -> Iterator[None]:
    """Names the line of ``node`` in what the block raises about a value."""
    try:
        yield
    except ZonesError as error:
        raise node.error(str(error)) from None
