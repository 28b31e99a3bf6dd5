"""A zone, made in the slow and simple way: one table of all names, with look-ups as RFC 1034 and 4592 say.

It shares with `zones.zone` nothing but the model, so that the two can be held against each other.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from ipaddress import IPv6Address

from zones.addresses import Platform
from zones.model import Environment, Instance, Service, State
from zones.names import Name

Table = dict[Name, dict[str, set[str]]]
"""Name → type → data in presentation form; a name without data is an empty non-terminal, or has none (NODATA)."""


def tabulate(platform: Platform, environment: Environment, now: int, down: Collection[str] = ()) -> Table:
    """Every name of ``environment``'s zones at ``now``, while the hosts in ``down`` are."""
    table: Table = defaultdict(lambda: defaultdict(set))
    apex, reverse = platform.apex, ptr_name(platform.prefix.network_address)[-4:]
    for top in (apex, Name.parse(".".join(reverse) + ".ip6.arpa")):
        table[top]["SOA"] = {
            f"ns.{apex} hostmaster.{apex} {environment.revision & 0xFFFFFFFF} 3600 600 86400 1",
        }
        table[top]["NS"] = {f"ns.{apex}"}
    prefix = platform.prefix.network_address
    table[Name.parse(f"ns.{apex}")]["AAAA"] = {str(prefix + 0x10)}
    table[Name.parse(f"_services.{apex}")]
    for name, service in environment.services.items():
        _add_service(table, apex, name, name, service, down)
        for former, until in service.former_names.items():
            if now < until:
                _add_service(table, apex, former, name, service, down)
        instances = service.instances.values()
        ready = sum(each.state is State.READY and not _path_problem(each, down) for each in instances)
        ports = "".join(f",port={port.name}:{port.number}/{port.protocol}" for port in service.ports)
        directory = f'"name={name},ready={ready},instances={len(service.instances)}{ports}"'
        table[Name.parse(f"_services.{apex}")]["TXT"].add(directory)
        for id_, instance in service.instances.items():
            address = IPv6Address(bytes(instance.address))
            table[Name.parse(".".join(ptr_name(address)) + ".ip6.arpa")]["PTR"].add(f"{id_}.{name}.{apex}")
    for resolver in (prefix + 0x10, environment.network.network_address + 0x10):
        table[Name.parse(".".join(ptr_name(resolver)) + ".ip6.arpa")]["PTR"].add(f"ns.{apex}")
    for name in environment.records:
        for rtype, _ttl, rdatas in environment.record_data(name):
            table[Name.parse(f"{name}.{apex}")][rtype.name] |= {str(rdata) for rdata in rdatas}
    _add_empty_non_terminals(table, apex)
    return {name: {rtype: data for rtype, data in sets.items() if data} for name, sets in table.items()}


def find(table: Table, qname: Name, apex: Name) -> dict[str, set[str]] | None:
    """The data at ``qname`` by type, wildcards included; None if the name does not exist."""
    if qname in table:
        return table[qname]
    if qname.below(apex) is None:
        return None
    encloser = qname.parent
    while encloser not in table:
        encloser = encloser.parent
    return table.get(Name(b"\x01*" + encloser))


def ptr_name(address: IPv6Address) -> list[str]:
    """The 32 nibble labels of ``address`` (RFC 3596 §2.5)."""
    return address.reverse_pointer.split(".")[:32]


def _path_problem(instance: Instance, down: Collection[str]) -> str:
    if not instance.host:
        return ""
    if instance.host in down:
        return "host-down"
    return "" if instance.attached else "not-attached"


def _add_service(table: Table, apex: Name, known_as: str, name: str, service: Service, down: Collection[str]) -> None:
    base = f"{known_as}.{apex}"
    table[Name.parse(base)]["AAAA"] = set()
    table[Name.parse(f"all.{base}")]["AAAA"] = set()
    table[Name.parse(f"one.{base}")]["AAAA"] = set()
    table[Name.parse(f"_instances.{base}")]["TXT"] = set()
    for port in service.ports:
        table[Name.parse(f"_{port.name}._{port.protocol}.{base}")]["SRV"] = set()
    for id_, instance in service.instances.items():
        address = str(instance.address)
        problem = _path_problem(instance, down)
        table[Name.parse(f"{id_}.{base}")]["AAAA"] = set() if problem else {address}
        if not problem:
            table[Name.parse(f"all.{base}")]["AAAA"].add(address)
        details = [f"id={id_}", f"address={address}", f"state={instance.state.value}"]
        details += [f"region={instance.region}"] if instance.region else []
        details += [f"host={instance.host}"] if instance.host else []
        details += [f"path={problem}"] if problem else []
        table[Name.parse(f"_instances.{base}")]["TXT"].add(f'"{",".join(details)}"')
        if instance.region:
            table[Name.parse(f"{instance.region}.region.{base}")]["AAAA"] |= set()
        if instance.state is not State.READY or problem:
            continue
        table[Name.parse(base)]["AAAA"].add(address)
        if "one" not in service.instances:
            table[Name.parse(f"one.{base}")]["AAAA"].add(address)
        if instance.region:
            table[Name.parse(f"{instance.region}.region.{base}")]["AAAA"].add(address)
        for port in service.ports:
            target = f"0 10 {port.number} {id_}.{name}.{apex}"
            table[Name.parse(f"_{port.name}._{port.protocol}.{base}")]["SRV"].add(target)


def _add_empty_non_terminals(table: Table, apex: Name) -> None:
    tops = [name for name, sets in table.items() if "SOA" in sets]
    for name in list(table):
        while name not in tops:
            name = name.parent
            table[name]
    assert apex in tops
