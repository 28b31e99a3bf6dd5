"""Runs clients through scenarios, and against servers that are wrong on purpose."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import count

from tests.clients import namespaces, scenarios, world
from tests.clients.builds import Build
from tests.clients.controls import Control
from tests.clients.namespaces import Host
from tests.clients.roster import Client
from tests.clients.scenarios import RESOLV_CONF, Scenario
from tests.clients.session import ROOT, Outcome, Session

# A fault is seen as well in one second as in five. Who takes no such advice is given up after a while.
_IMPATIENT = RESOLV_CONF.replace("ndots:1", "ndots:1 timeout:1 attempts:2")
_PATIENCE = 15.0  # seconds
_END_DEADLINE = 20.0


@dataclass(frozen=True, slots=True)
class Cell:
    """A client in a scenario. ``reason`` says what is wrong, or why it is not for this client (``applies``).

    ``remark`` says why it took more than it would have to.
    """

    applies: bool
    reason: str = ""
    remark: str = ""
    queries: int = 0
    tcp: int = 0
    milliseconds: float = 0.0
    slowest_reply: float = 0.0

    @property
    def passed(self) -> bool:
        return self.applies and not self.reason


def why_not() -> str:
    """What keeps this machine from running clients in namespaces; empty if nothing does."""
    if os.getuid() != 0:
        return "not root, and namespaces need it"
    missing = [command for command in ("ip", "nsenter", "unshare", "mount") if not shutil.which(command)]
    return f"not installed: {', '.join(missing)}" if missing else ""


class Ground:
    """A host with a server in it, and clients as they are wanted."""

    def __init__(self, host: Host, fault: str | None = None) -> None:
        self._host = host
        self._numbers = count()
        self._server = subprocess.Popen(
            [*host.namespace.enter(), sys.executable, "-m", "tests.clients.server", *([fault] if fault else [])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=ROOT,
        )
        assert self._server.stdout
        if self._server.stdout.readline().strip() != b"ready":
            self.close()
            raise RuntimeError("the server did not start")

    def close(self) -> None:
        """Ends the server, and what it has started."""
        try:
            self._server.communicate(timeout=_END_DEADLINE)
        except subprocess.TimeoutExpired:
            self._server.kill()
            self._server.communicate()

    @contextlib.contextmanager
    def session(
        self, build: Build, resolv_conf: str = RESOLV_CONF, *, warm: bool = True, member: str | None = None
    ) -> Iterator[Session]:
        """``build`` at work in a namespace of its own: as a client of no service, or with the address ``member``."""
        address = member or world.client_address(next(self._numbers))
        # What is local is reached from its own address, so a member of a service has its own and no other.
        local = () if member else world.LOCAL_PREFIXES
        space = self._host.workload(address, world.PLATFORM_PREFIX, local)
        session = Session(build.command, build.environ, self._host, space, world.RESOLVER, resolv_conf, warm=warm)
        try:
            yield session
        finally:
            session.close()


@contextlib.contextmanager
def ground(fault: str | None = None) -> Iterator[Ground]:
    """The real server, or one with ``fault``, for the length of a with-statement."""
    with namespaces.host((world.RESOLVER, world.OTHER_ADDRESS)) as host:
        made = Ground(host, fault)
        try:
            yield made
        finally:
            made.close()


def run(where: Ground, client: Client, build: Build, wanted: Iterable[Scenario]) -> dict[str, Cell]:
    """What ``client`` makes of each scenario, by the scenario's key."""
    cells: dict[str, Cell] = {}
    groups: dict[str, list[Scenario]] = {}
    for scenario in wanted:
        reason = _why_not(client, scenario)
        if reason:
            cells[scenario.key] = Cell(applies=False, reason=reason)
        else:
            groups.setdefault(scenario.resolv_conf, []).append(scenario)
    for resolv_conf, group in groups.items():
        with where.session(build, resolv_conf) as session:
            for scenario in group:
                cells[scenario.key] = judge(client, scenario, session.ask(_request(client, scenario)))
    return cells


def _request(client: Client, scenario: Scenario) -> str:
    return scenario.request.replace("CLIENT", client.key.replace(".", "-"))


def judge(client: Client, scenario: Scenario, outcome: Outcome) -> Cell:
    """Whether ``outcome`` is what ``scenario`` wants of ``client``."""
    if outcome.status == "na":
        return Cell(applies=False, reason="has no such look-up")
    traffic = outcome.traffic
    problems = [scenarios.fault(outcome, scenario.expect, connects=client.connects, is_vague=client.is_vague)]
    if traffic.slowest > scenario.slowest_reply:
        problems.append(f"waited {traffic.slowest:.0f} ms for a reply")
    excess = list(_excess(scenario, outcome))
    remark = client.patient.get(scenario.key, "") if excess else ""
    return Cell(
        applies=True,
        reason="; ".join(filter(None, problems if remark else [*problems, *excess])),
        remark=remark,
        queries=traffic.queries,
        tcp=len(traffic.tcp),
        milliseconds=outcome.milliseconds,
        slowest_reply=traffic.slowest,
    )


def _excess(scenario: Scenario, outcome: Outcome) -> Iterator[str]:
    """In which ways the look-up took more than it has to."""
    traffic = outcome.traffic
    if outcome.milliseconds > scenario.slowest:
        yield f"took {outcome.milliseconds:.0f} ms"
    if isinstance(scenario.expect, scenarios.Failure):
        return  # asking again is then what a client should do
    if traffic.repeated:
        yield f"asked again: {' '.join(map(str, traffic.repeated[:3]))}"
    if traffic.queries > scenario.most:
        yield f"sent {traffic.queries} queries, not {scenario.most}"


def notice(where: Ground, control: Control, client: Client, build: Build) -> str:
    """How ``client`` fails against the server of ``control``; empty if it notices nothing."""
    scenario = Scenario(control.fault, control.fault, control.request, control.expect, most=100)
    with where.session(build, _IMPATIENT, warm=False) as session:
        return judge(client, scenario, session.ask(control.request, _PATIENCE)).reason


def _why_not(client: Client, scenario: Scenario) -> str:
    if scenario.needs_search and not client.searches:
        return "does not use the search list"
    if scenario.request.startswith("pair ") and client.key != "sockets":
        return "sends this only by chance"
    return client.never.get(scenario.key, "")
