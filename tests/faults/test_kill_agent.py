"""``kill -9`` of an agent at random points of what it does: nothing is lost, and nothing is left behind.

``TEST_KILLS=500`` kills as often (default 15); ``-s`` shows what was killed in the middle of what.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from statistics import median
from typing import NamedTuple

import pytest

from agent.control.client import NoAgent, Refusal
from interlock.errors import ApiRefused
from interlock.sandbox.node import Program
from tests.faults.echo import Echo
from tests.mesh.mesh import DEADLINE, Mesh, Node, until
from tests.mesh.test_membership import peers, traces
from tests.mesh.topology import Workload

KILLS = int(os.environ.get("TEST_KILLS") or 15)
ENVIRONMENT = "killed"
BEFORE = "# not attached\n"
KEPT_FILES = r"[a-z][a-z.]*"  # the agent's own; what was being written when it was killed begins with a dot


@dataclass
class Victim:
    """A host whose agent is killed, and what was acknowledged by it."""

    hosts: Mesh
    node: Node
    attached: dict[str, Workload] = field(default_factory=dict)
    """The workloads that run here, by instance; each was acknowledged, or was found attached after a kill."""
    in_the_middle: Counter[str] = field(default_factory=Counter)
    """How often each operation was not acknowledged before the kill."""
    acknowledged: Counter[str] = field(default_factory=Counter)
    """How often each was."""
    seconds: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(lambda: [0.1]))
    """How long each took, where it was not killed."""
    numbers: Iterator[int] = field(default_factory=count)
    """The number of the next instance."""

    def start(self) -> None:
        """Starts the agent, and returns when it has settled."""
        self.node.agent.start()
        self.node.until_ready()
        self.until_settled()

    def kill_during(self, name: str, operation: Callable[[], object]) -> bool:
        """Kills the agent at a random moment of ``operation``; returns whether that was acknowledged before."""
        outcome: list[float] = []
        began = time.monotonic()

        def run() -> None:
            try:
                operation()
                outcome.append(time.monotonic() - began)
            except (NoAgent, Refusal):
                pass

        thread = threading.Thread(target=run)
        thread.start()
        time.sleep(random.uniform(0, 1.2 * median(self.seconds[name])))
        self.node.agent.kill()
        thread.join()
        self.seconds[name] += outcome
        (self.acknowledged if outcome else self.in_the_middle)[name] += 1
        print(f"{name}: {'acknowledged' if outcome else 'in the middle'}", flush=True)
        return bool(outcome)

    # What must be true once it is back

    def until_settled(self) -> None:
        """Returns when the host, its disk, the store and the other hosts agree."""
        until(
            lambda: not self.differences(),
            lambda: f"{self.differences()}\n{self.node.agent.log[-4000:]}",
            seconds=2 * DEADLINE,
        )

    def differences(self) -> list[str]:
        """What does not agree."""
        try:
            shown = self.node.ask("mesh")
        except (NoAgent, Refusal) as error:
            return [str(error)]
        found = {one["instance"].split(".")[0]: one for one in shown["attachments"]}
        first = {
            "phases": [one for one in found.values() if one["phase"] != "attached"],
            "lost": self.attached.keys() - found.keys(),
            "problems": shown["problems"],
        }
        if any(first.values()):  # the rest costs more to find out
            return [f"{name}: {what}" for name, what in first.items() if what]
        all_keys = {one["id"]: one["public_key"] for one in self.hosts.client.get("hosts")["hosts"]}
        recorded = {
            one["id"]: one["state"]
            for one in self.hosts.client.get("environments", ENVIRONMENT, "services", "api")["instances"]
            if one["host"] == self.node.id
        }
        keys = {shown["public_key"], all_keys[self.node.id], self._device("public-key")}
        revision = {one["id"]: one["revision"] for one in shown["environments"]}
        wanted = self.hosts.client.get("environments", ENVIRONMENT)["revision"]
        compared = {
            "records": recorded if recorded != dict.fromkeys(found, "ready") else {},
            "links": set(self._links()) ^ {one["link"] for one in found.values()},
            "files": self._files() ^ {f"{ENVIRONMENT}.api.{one}.json" for one in found},
            "keys": keys if len(keys) > 1 else (),
            "peers": any(found) and peers(self.hosts.nodes["h1"]).keys() ^ {all_keys[self.node.id]},
            "processes": self._unwanted_processes(),
            "tables": self._tables() != 1,
            "revision": any(found) and revision.get(ENVIRONMENT) != wanted,
        }
        return [f"{name}: {what}" for name, what in compared.items() if what]

    def check(self, instance: str) -> None:
        """Fails unless ``instance`` is attached as it should be."""
        workload = self.attached[instance]
        self.node.ask("check", environment=ENVIRONMENT, service="api", instance=instance, netns=workload.path)
        assert "fd12::10" in workload.resolv_conf.read_text()

    def check_gone(self, workload: Workload) -> None:
        """Fails if anything is left in ``workload``, which is not attached."""
        assert "railnet" not in workload.run(["ip", "-brief", "link"]).stdout
        assert workload.run(["ip", "-6", "route", "show", "fd12::/16"]).stdout == ""
        assert workload.resolv_conf.read_text() == BEFORE
        assert [path.name for path in workload.resolv_conf.parent.iterdir()] == [workload.resolv_conf.name]

    def is_attached(self, instance: str) -> bool:
        """Whether the agent says so."""
        return any(one["instance"].startswith(f"{instance}.") for one in self.node.ask("mesh")["attachments"])

    def _links(self) -> list[str]:
        shown = json.loads(self.node.host.run(["ip", "-json", "link", "show"]).stdout)
        return [one["ifname"] for one in shown if one["ifname"].startswith("rail")]

    def _files(self) -> set[str]:
        """The files of attachments, and whatever else should not be there."""
        found = self.node.host.run(["find", str(self.node.state), "-type", "f", "-printf", "%P\n"]).stdout.split()
        kept = {
            name for name in found if "/" not in name and not name.startswith(".") and re.fullmatch(KEPT_FILES, name)
        }
        return {name.removeprefix("attachments/") for name in set(found) - kept}

    def _device(self, what: str) -> str:
        return self.node.host.run(["wg", "show", "interlock0", what]).stdout.strip()

    def _unwanted_processes(self) -> list[str]:
        """Those of wireguard-go, unless there is one, or none where the kernel has WireGuard."""
        found = self.node.host.run(["pidof", "wireguard-go"], check=False).stdout.split()
        return found if len(found) != (self.node.device == "userspace") else []

    def _tables(self) -> int:
        return self.node.host.run(["nft", "list", "tables"]).stdout.count("inet interlock")


@pytest.fixture
def victim(hosts: Mesh) -> Iterator[Victim]:
    """A host that joins, and is switched off at the end."""
    hosts.environment(ENVIRONMENT, "api")
    (node,) = hosts.add("victim")
    hosts.nodes.pop(node.name)  # the others are those that know of it
    yield Victim(hosts, node)
    hosts.remove(node)
    hosts.client.delete("environments", ENVIRONMENT)
    until(lambda: forgotten(hosts, node.id), "its lease does not end")


def forgotten(hosts: Mesh, host: str) -> bool:
    try:
        hosts.client.delete("hosts", host)
    except ApiRefused:
        return False
    return True


@pytest.mark.timeout(120 + 25 * KILLS)
def test_an_agent_is_killed(hosts: Mesh, victim: Victim) -> None:
    operations = [attach, detach, commit, rotate, leave]
    other = hosts.nodes["h1"].attach(ENVIRONMENT, "api", "other")
    try:
        victim.attached["kept"] = victim.node.attach(ENVIRONMENT, "api", "kept")
        for number in range(KILLS):
            operation = operations[number % len(operations)]
            if operation is leave:
                operation(victim)
                continue
            with Echo(victim.attached["kept"], other) as echo:
                echo.until_answered()
                operation(victim)
                echo.until_answered()
            # While a key is changed some milliseconds are lost; all until the next agent, if it is killed just then.
            assert echo.lost == 0 or operation is rotate, f"{operation.__name__}: {echo.lost} datagrams were lost"
            for instance in victim.attached:
                victim.check(instance)
        print(f"not acknowledged: {dict(victim.in_the_middle)}; acknowledged: {dict(victim.acknowledged)}")
        assert "Traceback" not in victim.node.agent.log
    finally:
        hosts.nodes["h1"].detach(ENVIRONMENT, "api", "other")
        other.remove()


class WaitingAttach(NamedTuple):
    """An attach that waits for the answers of a host which is held up, while others answer its name."""

    kept: Workload
    """Another workload of the victim."""
    workload: Workload
    """The one that is being attached, as ``new``."""
    client: Workload
    """One on another host."""
    request: Future[Workload]
    """The attach."""
    held: Program
    """The agent that is held up."""


@contextmanager
def waiting_attach(hosts: Mesh, victim: Victim) -> Iterator[WaitingAttach]:
    """An attach on the victim. The held host has an instance, ``of-h2``, which is to be detached before the end."""
    others = [hosts.nodes[name].attach(ENVIRONMENT, "api", f"of-{name}") for name in ("h1", "h2")]
    kept, workload = victim.node.attach(ENVIRONMENT, "api", "kept"), victim.node.workload()
    held = hosts.nodes["h2"].agent
    os.kill(held.pid, signal.SIGSTOP)
    try:
        with ThreadPoolExecutor(1) as threads:
            request = threads.submit(victim.node.attach, ENVIRONMENT, "api", "new", workload)
            workload.attach_answer = {"address": until(lambda: ready_address(hosts, "new"), "it is not ready")}
            yield WaitingAttach(kept, workload, others[0], request, held)
    finally:
        os.kill(held.pid, signal.SIGCONT)
        hosts.nodes["h1"].detach(ENVIRONMENT, "api", "of-h1")
        for other in others:
            other.remove()


def test_an_agent_is_killed_when_the_name_of_an_attach_is_answered(hosts: Mesh, victim: Victim) -> None:
    """Its workload is reached all the time from then on, though nobody has heard that it is attached."""
    with waiting_attach(hosts, victim) as attach:
        with Echo(attach.workload, attach.client) as echo:
            echo.until_answered()
            victim.node.agent.kill()
            assert isinstance(attach.request.exception(), NoAgent)
            os.kill(attach.held.pid, signal.SIGCONT)
            hosts.nodes["h2"].detach(ENVIRONMENT, "api", "of-h2")
            victim.attached = {"kept": attach.kept, "new": attach.workload}
            victim.start()
            echo.until_answered()
        assert echo.lost == 0
        victim.check("new")


def test_the_control_plane_is_killed_when_the_name_of_an_attach_is_answered(hosts: Mesh, victim: Victim) -> None:
    """The attach fails. Until its record is gone, the name is answered, and its workload is reached all the time."""
    with waiting_attach(hosts, victim) as attach:
        with Echo(attach.workload, attach.client) as echo:
            echo.until_answered()
            hosts.plane.program.kill()
            assert isinstance(attach.request.exception(), Refusal)
            os.kill(attach.held.pid, signal.SIGCONT)
            until(lambda: "is detaching" in str(victim.node.ask("mesh")["problems"]), "nobody says what is left")
            echo.until_answered()
        assert echo.lost == 0
        hosts.plane.start()
        until(lambda: detached(hosts.nodes["h2"], "of-h2"), "h2 does not find the control plane again")
        victim.attached = {"kept": attach.kept}
        victim.until_settled()
        victim.check_gone(attach.workload)


def detached(node: Node, instance: str) -> bool:
    """Detaches ``instance``; false where that is refused."""
    try:
        node.detach(ENVIRONMENT, "api", instance)
    except Refusal:
        return False
    return True


def ready_address(hosts: Mesh, instance: str) -> str:
    """The address of an instance that is ready; empty while it is not."""
    found = hosts.client.get("environments", ENVIRONMENT, "services", "api")["instances"]
    return next((str(one["address"]) for one in found if (one["id"], one["state"]) == (instance, "ready")), "")


def attach(victim: Victim) -> None:
    """It is attached if it was acknowledged; else attached, or not at all, and it can be attached again."""
    instance, workload = f"i{next(victim.numbers)}", victim.node.workload()
    request = partial(victim.node.attach, ENVIRONMENT, "api", instance, workload)
    if victim.kill_during("attach", request):
        victim.attached[instance] = workload
    victim.start()
    if not victim.is_attached(instance):
        victim.check_gone(workload)
    if random.random() < 0.5:
        request()
        victim.attached[instance] = workload
    elif victim.is_attached(instance):
        assert victim.node.detach(ENVIRONMENT, "api", instance)
        victim.attached.pop(instance, None)
    if instance not in victim.attached:
        victim.check_gone(workload)
        workload.remove()


def detach(victim: Victim) -> None:
    """It is gone if that was acknowledged; else gone, or attached as before."""
    instance = random.choice([*(one for one in victim.attached if one != "kept"), ""])
    if not instance:
        instance = f"i{next(victim.numbers)}"
        victim.attached[instance] = victim.node.attach(ENVIRONMENT, "api", instance)
    workload = victim.attached.pop(instance)
    is_done = victim.kill_during("detach", partial(victim.node.detach, ENVIRONMENT, "api", instance))
    victim.start()
    if victim.is_attached(instance):
        assert not is_done
        assert victim.node.detach(ENVIRONMENT, "api", instance)
    victim.check_gone(workload)
    workload.remove()


def commit(victim: Victim) -> None:
    """What is committed while the agent is killed it has when it is back."""
    number = next(victim.numbers)

    def run() -> None:
        for one in range(3):
            body = {"ttl": 60, "values": [f"{number}-{one}"]}
            victim.hosts.client.put("environments", ENVIRONMENT, "records", "note", "TXT", body=body)

    victim.kill_during("commit", run)
    victim.start()


def rotate(victim: Victim) -> None:
    """It has one key, the new one if that was acknowledged."""
    before = victim.node.ask("mesh")["public_key"]
    is_done = victim.kill_during("rotate", lambda: victim.node.ask("rotate"))
    victim.start()
    after = victim.node.ask("mesh")["public_key"]
    assert after != before or not is_done


def leave(victim: Victim) -> None:
    """Whatever of it was done, the next agent is a whole one, which can leave and then leaves nothing."""
    workloads, victim.attached = victim.attached, {}
    node = victim.node
    victim.kill_during("leave", lambda: node.ask("leave"))
    victim.hosts.enrol(node)  # it may have left, and has no credential then
    victim.start()
    node.ask("leave")
    until(lambda: not node.agent.is_running, "the agent goes on")
    node.resolver.stop()
    assert traces(node) == []
    for workload in workloads.values():
        victim.check_gone(workload)
        workload.remove()
    victim.hosts.enrol(node)
    node.start()
    node.until_ready()
    victim.attached["kept"] = node.attach(ENVIRONMENT, "api", "kept")
