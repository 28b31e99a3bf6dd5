"""A name that comes again is no identity: a namespace's path, a host's id and its key are given to others."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from itertools import count

import pytest

from agent.control.client import Refusal
from tests.faults.echo import Echo
from tests.mesh.members import at_once
from tests.mesh.mesh import Mesh, Node, until
from tests.mesh.test_membership import traces
from tests.mesh.topology import Workload
from tests.namespaces import Namespace
from tests.store.servers import redis_of

_numbers = count(1)


@pytest.fixture
def environment(hosts: Mesh) -> Iterator[str]:
    """A new environment with the service ``api``."""
    id_ = f"identity-{next(_numbers)}"
    hosts.environment(id_, "api")
    yield id_
    hosts.client.delete("environments", id_)


def attached(node: Node) -> dict[str, str]:
    """The phases of the attachments of ``node``, by instance."""
    return {one["instance"]: one["phase"] for one in node.ask("mesh")["attachments"]}


def instances(mesh: Mesh, environment: str) -> dict[str, str]:
    """The addresses of the instances of ``api``, by id, as the store has them."""
    found = mesh.client.get("environments", environment, "services", "api")["instances"]
    return {one["id"]: one["address"] for one in found}


def addresses(space: Namespace) -> str:
    """The IPv6 addresses and links of ``space``, in the words of ip(8)."""
    command = ["ip", "-netns", space.name, "-brief", "address", "show"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def made_again(workload: Workload) -> None:
    """Its namespace is deleted, and another one made at the same path, as for the next tenant."""
    workload.namespace.remove()
    subprocess.run(["ip", "netns", "add", workload.namespace.name], check=True, capture_output=True)
    workload.namespace.ip(["link set lo up"])


# Namespaces


@pytest.mark.parametrize("is_agent_away", [False, True], ids=["agent runs", "agent was away"])
def test_a_new_namespace_at_the_old_path_gets_nothing_of_the_tenant_before(
    hosts: Mesh, environment: str, is_agent_away: bool
) -> None:
    node = hosts.nodes["h1"]
    workload = node.attach(environment, "api", "first")
    try:
        if is_agent_away:
            node.agent.kill()
        made_again(workload)
        if is_agent_away:
            node.agent.start()
            node.until_ready()
        until(lambda: "first" not in instances(hosts, environment), "the first tenant's name is still answered")
        until(lambda: not attached(node), lambda: f"still attached: {attached(node)}")
        assert "railnet0" not in addresses(workload.namespace)
        assert node.agent.events("workload_gone")

        before = workload.address
        node.attach(environment, "api", "second", workload)
        assert workload.address != before
        assert instances(hosts, environment) == {"second": workload.address}
        assert node.detach(environment, "api", "second")
    finally:
        node.detach(environment, "api", "first")
        workload.remove()


def test_the_next_tenant_attaches_at_once(hosts: Mesh, environment: str) -> None:
    """Before the agent has seen that the first one is gone; and it keeps its resolv.conf when the first one goes."""
    node = hosts.nodes["h1"]
    workload = node.attach(environment, "api", "first")
    try:
        made_again(workload)
        node.attach(environment, "api", "second", workload)
        until(
            lambda: attached(node) == {f"second.api of {environment}": "attached"},
            lambda: f"not the second alone: {attached(node)}",
        )
        assert instances(hosts, environment) == {"second": workload.address}
        assert "fd12::10" in workload.resolv_conf.read_text()
        assert workload.address in addresses(workload.namespace)
    finally:
        node.detach(environment, "api", "first")
        node.detach(environment, "api", "second")
        assert workload.resolv_conf.read_text() == "# not attached\n"
        workload.remove()


def test_the_same_instance_is_attached_in_its_next_namespace(hosts: Mesh, environment: str) -> None:
    node = hosts.nodes["h1"]
    workload = node.attach(environment, "api", "a1")
    try:
        made_again(workload)
        with pytest.raises(Refusal, match="another network namespace"):
            node.ask("check", environment=environment, service="api", instance="a1", netns=workload.path)
        node.attach(environment, "api", "a1", workload)
        assert workload.address in addresses(workload.namespace)
        node.ask("check", environment=environment, service="api", instance="a1", netns=workload.path)
    finally:
        node.detach(environment, "api", "a1")
        workload.remove()


def test_of_several_at_once_one_gets_the_workload(hosts: Mesh, environment: str) -> None:
    node = hosts.nodes["h1"]
    workload = node.workload()

    def attach(number: int) -> str:
        try:
            node.attach(environment, "api", f"a{number}", workload, interface=f"railnet{number}")
        except Refusal as refusal:
            return refusal.kind
        return "attached"

    try:
        assert sorted(at_once(attach, range(4))) == ["attached", "refused", "refused", "refused"]
        assert addresses(workload.namespace).count("railnet") == 1
        assert len(instances(hosts, environment)) == 1
    finally:
        for number in range(4):
            node.detach(environment, "api", f"a{number}")
        workload.remove()


def test_a_process_id_that_comes_again_gets_nothing(hosts: Mesh, environment: str) -> None:
    """The path leads through /proc: what is there when the link is gone is another process's namespace."""
    node, workload, other = hosts.nodes["h1"], hosts.nodes["h1"].workload(), hosts.nodes["h1"].workload()
    # A link stands for /proc/PID/ns/net, since no test can have the kernel give one process id twice at will.
    path = workload.resolv_conf.with_name("net")
    path.symlink_to(workload.path)
    try:
        node.attach(environment, "api", "first", workload, netns=str(path))
        path.unlink()
        path.symlink_to(other.path)
        workload.namespace.remove()
        until(lambda: not attached(node), lambda: f"still attached: {attached(node)}")
        assert "railnet0" not in addresses(other.namespace)
        assert instances(hosts, environment) == {}
    finally:
        node.detach(environment, "api", "first")
        workload.remove()
        other.remove()


def test_a_link_that_was_deleted_by_hand_is_made_again_in_the_same_namespace(hosts: Mesh, environment: str) -> None:
    """What is to be told apart from a namespace that is gone."""
    node = hosts.nodes["h1"]
    workload = node.attach(environment, "api", "a1")
    try:
        (attachment,) = node.ask("mesh")["attachments"]
        node.host.run(["ip", "link", "delete", attachment["link"]])
        until(lambda: workload.address in addresses(workload.namespace), "it was not connected again")
        assert instances(hosts, environment) == {"a1": workload.address}
    finally:
        node.detach(environment, "api", "a1")
        workload.remove()


@pytest.mark.parametrize("is_same", [True, False], ids=["the same namespace", "another one at its path"])
def test_an_attachment_of_a_release_that_did_not_keep_its_namespace(
    hosts: Mesh, environment: str, is_same: bool
) -> None:
    node = hosts.nodes["h1"]
    workload = node.attach(environment, "api", "a1")
    try:
        node.agent.kill()
        path = node.state / f"attachments/{environment}.api.a1.json"
        kept = json.loads(path.read_text())
        identity = kept.pop("namespace")
        path.write_text(json.dumps(kept))
        if not is_same:
            made_again(workload)
        node.agent.start()
        node.until_ready()
        if is_same:
            until(lambda: json.loads(path.read_text()).get("namespace") == identity, "it is not kept")
            assert workload.address in addresses(workload.namespace)
        else:
            until(lambda: not attached(node), lambda: f"still attached: {attached(node)}")
            assert "railnet0" not in addresses(workload.namespace)
        assert list(instances(hosts, environment)) == (["a1"] if is_same else [])
    finally:
        node.detach(environment, "api", "a1")
        workload.remove()


def test_a_workload_is_in_one_environment(hosts: Mesh, environment: str) -> None:
    """The second attach would take the first one's route, and its detach would leave none."""
    node, second = hosts.nodes["h1"], f"{environment}-second"
    hosts.environment(second, "api")
    workload = node.attach(environment, "api", "a1")
    try:
        for other in (environment, second):
            with pytest.raises(Refusal, match=f"attached already, as a1.api of {environment}") as refusal:
                node.attach(other, "api", "a2", workload, interface="railnet1")
            assert refusal.value.kind == "refused"
        assert "railnet1" not in addresses(workload.namespace)
        assert instances(hosts, second) == {}
        routes = workload.run(["ip", "-6", "route", "show", "fd12::/16"]).stdout
        assert "dev railnet0" in routes
        assert node.detach(environment, "api", "a1")
        node.attach(second, "api", "a2", workload)
    finally:
        node.detach(environment, "api", "a1")
        node.detach(second, "api", "a2")
        workload.remove()
        hosts.client.delete("environments", second)


# Hosts


@pytest.fixture
def copy(hosts: Mesh) -> Iterator[Node]:
    """A host on which nothing runs yet, that is to be given the state directory of ``h1`` and its id."""
    node = hosts.boot(f"copy{next(_numbers)}", "h1")
    yield node
    hosts.remove(node)


def has_ended(node: Node) -> bool:
    return not node.agent.is_running


def test_a_copy_of_a_live_host_is_refused_and_named_on_both(hosts: Mesh, environment: str, copy: Node) -> None:
    node = hosts.nodes["h1"]
    workload = node.attach(environment, "api", "a1")
    try:
        copied(node, copy)
        copy.start()
        until(lambda: has_ended(copy), "the copy goes on")
        assert f"another agent is the host 'h1', and lives, at {node.endpoint}: was this machine" in copy.agent.log
        assert "another --host than 'h1'" in copy.agent.log
        assert [trace for trace in traces(copy) if not trace.startswith(f"file: {copy.state}")] == []

        (claimed,) = node.agent.events("host_claimed_twice")
        assert copy.endpoint in claimed["where"]
        assert node.is_ready
        assert copy.endpoint in node.readyz()
        assert [problem for problem in node.ask("mesh")["problems"] if copy.endpoint in problem]

        assert instances(hosts, environment) == {"a1": workload.address}
        assert hosts.client.get("hosts", "h1")["endpoint"] == node.endpoint
        assert workload.run(["ip", "-6", "route", "get", "fd12::10"]).returncode == 0
    finally:
        node.detach(environment, "api", "a1")
        workload.remove()


def test_a_copy_that_started_without_the_store_has_no_peers_and_is_refused_when_the_store_is_back(
    hosts: Mesh, environment: str, copy: Node
) -> None:
    node = hosts.nodes["h1"]
    workload = node.attach(environment, "api", "a1")
    try:
        copied(node, copy)
        hosts.kill_store()
        try:
            copy.start()
            until(lambda: copy.agent.events("not_renewed"), "it does not start without the store")
        finally:
            hosts.start_store()
        node.until_ready()
        until(lambda: copy.endpoint in node.readyz(), "the live host does not say so")
        # Until then it says that no control plane answers, as each attempt finds it.
        until(lambda: "another agent is the host 'h1'" in str(copy.ask("mesh")["problems"]), "the copy does not say so")
        until(
            lambda: "another agent is the host 'h1'" in copy.ask("status")["reason"], "its status says something else"
        )
        assert copy.host.run(["wg", "show", "interlock0", "peers"]).stdout == ""
        with pytest.raises(Refusal):
            copy.attach(environment, "api", "a2")
        assert instances(hosts, environment) == {"a1": workload.address}
        assert hosts.client.get("hosts", "h1")["endpoint"] == node.endpoint
    finally:
        node.detach(environment, "api", "a1")
        workload.remove()


def test_a_host_that_was_away_while_its_copy_started_is_refused_in_its_turn(hosts: Mesh, copy: Node) -> None:
    node = hosts.nodes["h1"]
    copied(node, copy)
    os.kill(node.agent.pid, signal.SIGSTOP)
    try:
        copy.start()
        copy.until_ready()  # the lease had ended
    finally:
        os.kill(node.agent.pid, signal.SIGCONT)
    try:
        until(lambda: "another agent is the host 'h1'" in node.ask("status")["reason"], "it does not notice")
        assert not node.is_ready
        assert "another agent is the host 'h1'" in str(node.ask("mesh")["problems"])
        assert "another agent is the host 'h1'" in node.agent.events("not_renewed")[-1]["reason"]
        until(lambda: node.endpoint in str(copy.ask("mesh")["problems"]), "the copy does not say so")
    finally:
        copy.agent.kill()
        node.until_ready()
    assert hosts.client.get("hosts", "h1")["endpoint"] == node.endpoint


def test_an_agent_that_is_killed_is_the_same_host_at_once(hosts: Mesh) -> None:
    node = hosts.nodes["h1"]
    before = (node.state / "incarnation.json").read_text()
    refusals = len(node.agent.events("host_claimed_twice"))
    for _ in range(3):
        node.agent.kill()
        node.agent.start()
        node.until_ready()
    assert (node.state / "incarnation.json").read_text() == before
    assert len(node.agent.events("host_claimed_twice")) == refusals


def copied(node: Node, copy: Node) -> None:
    """Copies the state directory of ``node`` to ``copy``, whose kernel was booted on its own, as a clone's is."""
    shutil.copytree(node.state, copy.state)
    for path in copy.state.glob("attachments/*.json"):
        kept = json.loads(path.read_text())
        kept["namespace"]["boot"] = "another"
        path.write_text(json.dumps(kept))


# The store and the host compared


def test_a_host_that_was_installed_again_answers_for_nothing_that_is_gone(hosts: Mesh, environment: str) -> None:
    node = hosts.nodes["h2"]
    node.attach(environment, "api", "a1")
    try:
        node.host.kill()
        shutil.rmtree(node.state)
        hosts.enrol(node)
        node.restart()
        node.until_ready()
        until(
            lambda: states(hosts, environment) == {"a1": "starting"},
            lambda: f"still answered: {states(hosts, environment)}",
            seconds=60,
        )
        until(
            lambda: "a1.api" in str(node.ask("mesh")["problems"]) or not states(hosts, environment), "it is not named"
        )
    finally:
        hosts.client.delete("environments", environment, "services", "api", "instances", "a1")


@pytest.mark.parametrize("damage", ["cut short", "removed"])
def test_a_lost_attachment_cuts_nobody_off(hosts: Mesh, environment: str, damage: str) -> None:
    node, other = hosts.nodes["h1"], hosts.nodes["h2"]
    workload, client = node.attach(environment, "api", "a1"), other.attach(environment, "api", "c1")
    path = node.state / f"attachments/{environment}.api.a1.json"
    try:
        with Echo(workload, client) as echo:
            echo.until_answered()
            node.agent.kill()
            before = json.loads(path.read_text())
            recovered = len(node.agent.events("attachment_recovered"))
            path.write_text('{"environment": "ident') if damage == "cut short" else path.unlink()
            node.agent.start()
            node.until_ready()
            until(lambda: len(node.agent.events("attachment_recovered")) > recovered, "it is not made again")
            assert echo.lost == 0
        again = json.loads(path.read_text())
        for field in ("address", "netns", "interface", "namespace", "phase"):
            assert again[field] == before[field]
        node.ask("check", environment=environment, service="api", instance="a1", netns=workload.path)
        assert node.detach(environment, "api", "a1")
        assert instances(hosts, environment).keys() == {"c1"}
        assert "railnet0" not in addresses(workload.namespace)
    finally:
        node.detach(environment, "api", "a1")
        other.detach(environment, "api", "c1")
        workload.remove()
        client.remove()


@pytest.mark.parametrize(
    ("what", "is_agent_away"), [("instance", False), ("service", True), ("environment", False), ("environment", True)]
)
def test_what_was_deleted_behind_the_agent_is_detached(hosts: Mesh, what: str, is_agent_away: bool) -> None:
    node, environment = hosts.nodes["h1"], f"identity-{next(_numbers)}"
    hosts.environment(environment, "api", "other")
    stays, workload = node.attach(environment, "other", "o1"), node.attach(environment, "api", "a1")
    try:
        if is_agent_away:
            node.agent.kill()
        path = ["environments", environment, "services", "api", "instances", "a1"]
        hosts.client.delete(*path[: {"instance": 6, "service": 4, "environment": 2}[what]])
        if is_agent_away:
            node.agent.start()
            node.until_ready()
        left = {} if what == "environment" else {f"o1.other of {environment}": "attached"}
        until(lambda: attached(node) == left, lambda: f"still attached: {attached(node)}")
        assert "railnet0" not in addresses(workload.namespace)
        assert ("railnet0" in addresses(stays.namespace)) == (what != "environment")
        assert workload.resolv_conf.read_text() == "# not attached\n"
        assert node.agent.events("record_removed")
    finally:
        node.detach(environment, "api", "a1")
        node.detach(environment, "other", "o1")
        if what != "environment":
            hosts.client.delete("environments", environment)
        workload.remove()
        stays.remove()


@pytest.mark.parametrize("is_older_copy", [False, True], ids=["made again", "older copy"])
def test_what_was_lost_with_the_data_is_recorded_again_and_keeps_running(
    hosts: Mesh, environment: str, is_older_copy: bool
) -> None:
    """The new data pass the revisions of the old ones before the hosts ask: a revision alone tells nothing."""
    node = hosts.nodes["h1"]
    copy = asyncio.run(stored(hosts, environment))
    workloads = [node.attach(environment, "api", id_) for id_ in ("a1", "a2", "a3")]
    try:
        asyncio.run(store_again(hosts, environment, copy if is_older_copy else None))
        if not is_older_copy:
            hosts.environment(environment, "api")
        for number in range(8):
            record = ("environments", environment, "records", f"r{number}", "TXT")
            hosts.client.put(*record, body={"ttl": 60, "values": ["later"]})
        hosts.interlock("guard", "confirm", "--yes")
        until(lambda: states(hosts, environment) == dict.fromkeys(("a1", "a2", "a3"), "ready"), "not all are recorded")
        hosts.until_healthy()
        for workload, address in zip(workloads, instances(hosts, environment).values(), strict=True):
            assert address in addresses(workload.namespace)
    finally:
        for id_ in ("a1", "a2", "a3"):
            node.detach(environment, "api", id_)
        for workload in workloads:
            workload.remove()


async def stored(hosts: Mesh, environment: str) -> tuple[bytes, bytes]:
    """The line in the index and the document of ``environment``."""
    async with redis_of(hosts.store.url) as redis:
        line = await redis.hget("interlock:environments", environment)
        return line, await redis.get(f"interlock:environment:{environment}")


async def store_again(hosts: Mesh, environment: str, copy: tuple[bytes, bytes] | None) -> None:
    """Replaces what the store has of ``environment`` by an older ``copy``; None: by nothing, not even its network."""
    async with redis_of(hosts.store.url) as redis:
        if copy:
            await redis.hset("interlock:environments", environment, copy[0])
            await redis.set(f"interlock:environment:{environment}", copy[1])
            return
        await redis.hdel("interlock:environments", environment)
        await redis.delete(f"interlock:environment:{environment}")
        owners = await redis.hgetall("interlock:networks")
        await redis.hdel("interlock:networks", *[net for net, owner in owners.items() if owner.decode() == environment])


def test_a_link_that_nobody_knows_is_removed(hosts: Mesh) -> None:
    node = hosts.nodes["h1"]
    node.host.run(["ip", "link", "add", "rail00000000000", "type", "veth", "peer", "other0"])
    until(lambda: "rail00000000000" in str(node.ask("mesh")["problems"]), "it is not named")
    show = ["ip", "link", "show", "rail00000000000"]
    until(lambda: node.host.run(show, check=False).returncode, "it is still there", seconds=60)
    until(lambda: node.agent.events("link_removed"), "it is not in the log")


def test_an_instance_that_is_recorded_before_it_is_attached_keeps_its_address(hosts: Mesh, environment: str) -> None:
    node = hosts.nodes["h1"]
    path = ("environments", environment, "services", "api", "instances", "a1")
    put = hosts.client.put(*path, body={"host": "h1", "state": "ready"})
    address = put["address"]
    assert put["placement"] == "not attached"  # so it is answered under no name
    workload = node.attach(environment, "api", "a1")
    try:
        assert (workload.address, states(hosts, environment)) == (address, {"a1": "ready"})
    finally:
        node.detach(environment, "api", "a1")
        workload.remove()


def states(mesh: Mesh, environment: str) -> dict[str, str]:
    """The states of the instances of ``api``, by id, as the store has them."""
    found = mesh.client.get("environments", environment, "services", "api")["instances"]
    return {one["id"]: one["state"] for one in found}


# Starting, rotating, leaving


@pytest.fixture
def newcomer(hosts: Mesh) -> Iterator[Node]:
    """A host on which nothing runs yet."""
    node = hosts.boot(f"new{next(_numbers)}")
    yield node
    hosts.remove(node)


def test_an_agent_that_refuses_to_start_leaves_nothing_and_names_the_holder(newcomer: Node) -> None:
    script = "import socket, time; s = socket.socket(type=2); s.bind(('', 51820)); print(1, flush=True); time.sleep(99)"
    with (newcomer.state.parent / "holder.log").open("wb+") as log:
        holder = newcomer.host.popen([sys.executable, "-c", script], log)
        until(lambda: (newcomer.state.parent / "holder.log").read_bytes(), "the port is not held")
        newcomer.agent.start()
        until(lambda: has_ended(newcomer), "it goes on")
        assert "UDP port 51820, which WireGuard is to listen on, is in use by process" in newcomer.agent.log
        assert "(python" in newcomer.agent.log
        assert [trace for trace in traces(newcomer) if not trace.startswith("file:")] == []
        holder.kill()
        holder.wait()
    newcomer.start()
    newcomer.until_ready()
    newcomer.ask("leave")
    until(lambda: has_ended(newcomer), "it goes on")


def test_an_agent_with_the_key_of_another_host_makes_nothing(hosts: Mesh, newcomer: Node) -> None:
    newcomer.state.mkdir()
    shutil.copy(hosts.nodes["h1"].state / "wireguard.key", newcomer.state)
    newcomer.agent.start()
    until(lambda: has_ended(newcomer), "it goes on")
    assert "host 'h1' has this public key" in newcomer.agent.log
    assert [trace for trace in traces(newcomer) if not trace.startswith("file:")] == []


def test_leaving_ends_wireguard_every_time(hosts: Mesh, newcomer: Node) -> None:
    for _ in range(3):
        hosts.enrol(newcomer)  # a host that has left has no credential any more
        newcomer.start()
        newcomer.until_ready()
        newcomer.ask("leave")
        until(lambda: has_ended(newcomer), "it goes on")
        newcomer.resolver.stop()
        assert traces(newcomer) == []


def test_a_gateway_changes_its_key_only_when_that_is_asked_for(hosts: Mesh, environment: str) -> None:
    """The laptops' configurations hold the key in use, and nobody tells them the next one."""
    node = hosts.nodes["h1"]
    before = node.ask("mesh")["public_key"]
    hosts.interlock("peer", "add", "laptop", "-e", environment, "--gateway", "h1")
    try:
        until(lambda: environment in str(node.ask("mesh")["environments"]), "it is not published")
        with pytest.raises(Refusal, match=f"the gateway of laptop of {environment}") as refusal:
            node.ask("rotate")
        assert refusal.value.kind == "refused"
        assert node.ask("mesh")["public_key"] == before
        done = node.ask("rotate", cut_off_peers=True)
        assert (done["cut_off"], done["public_key"] != before) == ([f"laptop of {environment}"], True)
    finally:
        hosts.interlock("peer", "remove", "laptop", "-e", environment)
    until(lambda: environment not in str(node.ask("mesh")["environments"]), "it is still published")
    node.ask("rotate")
