"""Judges the workloads of a host, seen from inside their network namespaces."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from ipaddress import ip_address

from agent.examine.facts import Connect, Listener, WorkloadFacts
from interlock.doctor.marks import Mark, Standing, broken, ok, unknown, warning
from zones.model import Port

SHOWN = 5  # sockets that a sentence names


def judge_workload(
    workload: WorkloadFacts,
    resolver: str,
    ports: Sequence[Port],
    *,
    is_asked: bool,
    is_server: bool = False,
    has_resolver: bool = True,
) -> Iterator[Mark]:
    """The marks of ``workload``, whose service has ``ports``; ``resolver`` is its host's, in its ``resolv.conf``.

    ``is_asked`` says that somebody wants to connect to it: then a workload in which nothing listens is worth a word.
    ``is_server`` says that only connections to it matter, which need no ``resolv.conf`` of its own.
    """
    name = f"{workload.instance}.{workload.service} of {workload.environment}"
    attach = (
        f"interlock attach -e {workload.environment} --service {workload.service} --instance {workload.instance}"
        f" --netns {workload.netns}"
    )
    if workload.gone:
        yield broken(
            "attachment",
            f"{name}: its network namespace is gone: {workload.gone}",
            f"interlock detach -e {workload.environment} --service {workload.service} --instance {workload.instance}",
        )
        return
    if workload.phase != "attached":
        yield warning("attachment", f"{name} is {workload.phase}, and not attached yet", f"if that stays: {attach}")
    if workload.address is None:
        return
    if workload.faults:
        yield from _judge_faults(name, workload, attach)
    else:
        yield ok("link", f"{name}: link, address {workload.address} and routes are as they were made")
    for mark in _judge_resolv_conf(name, workload, resolver, attach):
        is_note = is_server and mark.standing is Standing.BROKEN
        yield warning(mark.check, f"{mark.detail}; who connects to it is not harmed", mark.fix) if is_note else mark
    if workload.lookup and has_resolver:
        yield broken(
            "lookup",
            f"{name}: its own name is not answered from inside: {workload.lookup}",
            "systemctl restart interlock-resolver; interlock tail --failed shows what is answered",
        )
    elif not workload.lookup:
        yield ok("lookup", f"{name}: its own name is answered from inside")
    yield from judge_sockets(name, workload.address, workload.listeners, ports, is_asked=is_asked)


def judge_sockets(
    name: str, address: str, listeners: Iterable[Listener] | None, ports: Sequence[Port], *, is_asked: bool
) -> Iterator[Mark]:
    """Whether programs in ``name`` accept what comes to ``address``, at ``ports`` or, where none is known, at any."""
    if listeners is None:
        yield unknown("sockets", f"{name}: its sockets cannot be read")
        return
    found = list(listeners)
    for port in ports:
        here = [one for one in found if one.port == port.number and one.protocol == port.protocol]
        yield _judge_port(name, address, here, f"port {port.number}/{port.protocol}", port.number)
    if ports:
        return
    accepting = [one for one in found if one.protocol == "tcp"]
    if any(_is_reachable(one, address) for one in accepting):
        ports_open = sorted({one.port for one in accepting if _is_reachable(one, address)})
        yield ok("sockets", f"{name} accepts connections at port {', '.join(map(str, ports_open[:SHOWN]))}")
    elif any(_is_everywhere(one) for one in accepting):
        yield _judge_port(name, address, [one for one in accepting if _is_everywhere(one)], "any port", None)
    elif is_asked and accepting:
        yield _judge_port(name, address, accepting, "any port", None)
    elif is_asked:
        yield warning(
            "sockets",
            f"{name}: no program in it accepts connections over TCP; that is as it should be if it only connects to"
            " others",
            "start the program that is to serve, bound to [::]",
        )


def judge_connects(connects: Iterable[Connect], environment: str) -> Iterator[Mark]:
    """Whether the connections that were tried inside ``environment`` were accepted."""
    for one in connects:
        target = f"{one.target} at [{one.address}]:{one.port}"
        there = f"on {one.host}: interlock doctor {one.target} -e {environment}" if one.host else "interlock doctor"
        match one.outcome:
            case "open":
                yield ok("connection", f"{one.source} connects to {target}")
            case "refused":
                yield broken(
                    "connection",
                    f"{one.source} is refused by {target}: the path is good, and no program there accepts connections"
                    " at that port by IPv6: it is bound to IPv4 or to the loopback alone, to another port, or not"
                    " running",
                    f"{there} names the program; let it listen on [::]:{one.port}",
                )
            case "silent":
                where = "" if one.host else ", which has no host: nobody but whoever recorded it can connect it"
                yield broken(
                    "connection",
                    f"{one.source} gets no answer from {target}{where}",
                    f"{there} says what is wrong there",
                )
            case other:
                yield broken("connection", f"{one.source} cannot connect to {target}: {other}", there)


def _judge_faults(name: str, workload: WorkloadFacts, attach: str) -> Iterator[Mark]:
    links = [one for one in workload.faults if "is not as it was written" not in one]
    if links:
        yield broken("link", f"{name}: {'; '.join(links)}", attach)
    else:
        yield ok("link", f"{name}: link, address {workload.address} and routes are as they were made")


def _judge_resolv_conf(name: str, workload: WorkloadFacts, resolver: str, attach: str) -> Iterator[Mark]:
    path, found = workload.resolv_conf, workload.nameservers
    fix = f"write 'nameserver {resolver}' alone into it, or: {attach} --resolv-conf FILE"
    if path is None:
        yield unknown("resolv.conf", f"{name}: no process runs in it, and the agent has written no resolv.conf for it")
    elif found is None:
        yield broken("resolv.conf", f"{name}: {path} is missing or cannot be read, so it resolves no name", fix)
    elif resolver not in found:
        what = f"names the nameserver {', '.join(found)}, and not {resolver}" if found else "names no nameserver"
        yield broken(
            "resolv.conf",
            f"{name}: {path} {what}, so the names of its environment are unknown to it",
            fix,
        )
    elif found != (resolver,):
        others = ", ".join(one for one in found if one != resolver)
        yield warning(
            "resolv.conf",
            f"{name}: {path} names {others} beside {resolver}, and some C libraries believe whichever answers first",
            fix,
        )
    else:
        yield ok("resolv.conf", f"{name}: {path} names {resolver} alone")


def _judge_port(name: str, address: str, here: Sequence[Listener], what: str, number: int | None) -> Mark:
    if any(_is_reachable(one, address) for one in here):
        return ok("sockets", f"{name} accepts what comes to {what}: {_describe(here)}")
    wanted = f"[::]:{number if number else here[0].port}"
    if not here:
        return broken(
            "sockets",
            f"{name}: no program in it listens at {what}",
            f"start it, bound to {wanted}; or correct the port: interlock service put",
        )
    if any(_is_everywhere(one) for one in here):
        return broken(
            "sockets",
            f"{name} listens on IPv4 only, and is reached by IPv6 alone: {_describe(here)}",
            f"bind it to {wanted} instead of 0.0.0.0:{here[0].port}; that takes IPv4 as well",
        )
    if all(ip_address(one.address).is_loopback for one in here):
        return broken(
            "sockets",
            f"{name} listens on the loopback only, so nobody else reaches it: {_describe(here)}",
            f"bind it to {wanted} instead of {_endpoint(here[0])}",
        )
    return broken(
        "sockets",
        f"{name} listens on other addresses than its own {address}: {_describe(here)}",
        f"bind it to {wanted} instead of {_endpoint(here[0])}",
    )


def _is_reachable(one: Listener, address: str) -> bool:
    return one.address in ("::", address)


def _is_everywhere(one: Listener) -> bool:
    """Whether it is bound to all addresses of IPv4: its program wants to be reached from elsewhere."""
    return one.address == "0.0.0.0"  # noqa: S104 what is looked for


def _describe(here: Sequence[Listener]) -> str:
    shown = [f"{_endpoint(one)}" + (f" by {one.process}" if one.process else "") for one in here[:SHOWN]]
    return ", ".join(shown) + (" …" if len(here) > SHOWN else "")


def _endpoint(one: Listener) -> str:
    return f"[{one.address}]:{one.port}" if ":" in one.address else f"{one.address}:{one.port}"
