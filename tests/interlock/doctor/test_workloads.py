"""What the sockets, the resolv.conf and the look-up of a workload mean: cases."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from agent.examine.facts import Connect, HostFacts, Listener, WorkloadFacts
from interlock.doctor.judge import judge_workloads
from interlock.doctor.marks import Mark, Report, Standing
from interlock.doctor.workloads import judge_sockets, judge_workload
from zones.model import Port

OWN, RESOLVER = "fd12:1:1:1::1", "fd12::10"
HTTP = (Port("http", 8080),)


def tcp(address: str, port: int = 8080) -> Listener:
    return Listener("tcp", address, port, "python3 (process 7)")


SOCKETS = [
    # what listens, the service's ports, whether somebody asks, the standing, and words of the sentence
    ([tcp("::")], HTTP, False, Standing.OK, "accepts"),
    ([tcp(OWN)], HTTP, False, Standing.OK, "accepts"),
    ([tcp("0.0.0.0"), tcp("::")], HTTP, False, Standing.OK, "accepts"),
    ([tcp("0.0.0.0")], HTTP, False, Standing.BROKEN, "IPv4 only"),
    ([tcp("127.0.0.1"), tcp("::1")], HTTP, False, Standing.BROKEN, "loopback only"),
    ([tcp("127.0.0.1"), tcp("0.0.0.0")], HTTP, False, Standing.BROKEN, "IPv4 only"),
    ([tcp("10.0.0.7")], HTTP, False, Standing.BROKEN, "other addresses than its own"),
    ([tcp("::", 9090)], HTTP, False, Standing.BROKEN, "no program in it listens at port 8080/tcp"),
    ([Listener("udp", "::", 8080)], HTTP, False, Standing.BROKEN, "no program in it listens"),
    ([Listener("udp", "::", 53)], (Port("dns", 53, "udp"),), False, Standing.OK, "accepts"),
    # Without ports: a program bound to all of IPv4 wants to be reached; one on the loopback may be private.
    ([tcp("0.0.0.0", 3000)], (), False, Standing.BROKEN, "IPv4 only"),
    ([tcp("0.0.0.0", 3000), tcp("::", 3001)], (), False, Standing.OK, "3001"),
    ([tcp("127.0.0.1", 9000)], (), True, Standing.BROKEN, "loopback only"),
    ([], (), True, Standing.WARNING, "no program in it accepts connections"),
    (None, HTTP, True, Standing.UNKNOWN, "cannot be read"),
]


@pytest.mark.parametrize(("listeners", "ports", "is_asked", "standing", "text"), SOCKETS)
def test_sockets(
    listeners: list[Listener] | None, ports: tuple[Port, ...], is_asked: bool, standing: Standing, text: str
) -> None:
    (mark,) = judge_sockets("a1.api of production", OWN, listeners, ports, is_asked=is_asked)
    assert (mark.standing, text in mark.detail) == (standing, True), mark
    assert (mark.fix != "") is (standing in (Standing.BROKEN, Standing.WARNING))


@pytest.mark.parametrize("listeners", [[], [tcp("127.0.0.1", 9000)]])
def test_a_worker_that_nobody_asks_for_is_no_fault(listeners: list[Listener]) -> None:
    assert list(judge_sockets("w1.worker of production", OWN, listeners, (), is_asked=False)) == []


WELL = WorkloadFacts(
    instance="a1",
    service="api",
    environment="production",
    address=OWN,
    phase="attached",
    netns="/run/netns/a1",
    resolv_conf="/etc/netns/a1/resolv.conf",
    nameservers=(RESOLVER,),
    listeners=(tcp("::"),),
)

WORKLOADS = [
    (WELL, Standing.OK, "link"),
    (replace(WELL, gone="there is no network namespace"), Standing.BROKEN, "attachment"),
    (replace(WELL, phase="attaching"), Standing.WARNING, "attachment"),
    (replace(WELL, faults=("there is no link railnet0",)), Standing.BROKEN, "link"),
    (replace(WELL, nameservers=("192.0.2.53",)), Standing.BROKEN, "resolv.conf"),
    (replace(WELL, nameservers=None), Standing.BROKEN, "resolv.conf"),
    (replace(WELL, nameservers=(RESOLVER, "192.0.2.53")), Standing.WARNING, "resolv.conf"),
    (replace(WELL, resolv_conf=None, nameservers=None), Standing.UNKNOWN, "resolv.conf"),
    (replace(WELL, lookup="it has not answered"), Standing.BROKEN, "lookup"),
]


@pytest.mark.parametrize(("workload", "standing", "check"), WORKLOADS, ids=lambda one: str(getattr(one, "name", "")))
def test_workloads(workload: WorkloadFacts, standing: Standing, check: str) -> None:
    marks: list[Mark] = list(judge_workload(workload, RESOLVER, HTTP, is_asked=True))
    worst = [mark for mark in marks if mark.standing is not Standing.OK]
    assert [mark.check for mark in worst] == ([] if standing is Standing.OK else [check])
    assert all(mark.standing is standing for mark in worst)


def test_a_resolv_conf_is_a_fault_of_clients_alone() -> None:
    """Whoever connects to a server needs no resolv.conf of the server's."""
    facts = HostFacts(
        host="h1", endpoint="192.0.2.1:51820", device="interlock0", mtu=1420,
        workloads=(replace(WELL, nameservers=()),),
        connects=(Connect("w1.web", "a1.api", "h1", OWN, 9, "refused"),),
    )  # fmt: skip
    for target, is_asked in (("a1.api", False), (OWN, False), ("api", False), (None, True)):
        report = Report.of(judge_workloads(facts, None, RESOLVER, is_asked=is_asked, target=target))
        assert report.cause
        assert (report.cause.check, report.standing) == ("connection", Standing.BROKEN), report
        (found,) = [mark for mark in report.marks if mark.check == "resolv.conf"]
        assert (found.standing, "names no nameserver" in found.detail) == (Standing.WARNING, True)
    report = Report.of(judge_workloads(facts, None, RESOLVER, is_asked=False, target="b1.other"))
    assert [mark.check for mark in report.marks if mark.standing is Standing.BROKEN] == ["connection", "resolv.conf"]
