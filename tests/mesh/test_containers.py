"""Containers in the mesh: the CNI plugin's commands with a real agent behind them, and podman, which runs it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest

from agent.cni.call import ErrorCode
from interlock.client import Client
from tests.clients.builds import Build
from tests.mesh import podman as podmans
from tests.mesh.mesh import AGENT_DIRECTORY, Mesh, Node, until
from tests.mesh.podman import PLUGIN, Podman
from tests.mesh.talking import PORT, talking
from tests.mesh.topology import Workload

CONTAINER = "657f26d8469cd253b0350398278372dae09af07fe283fdf7f22a44449aa9c543"
ENVIRONMENT = "containers"
STRANGERS = "strangers"
DNS = {"nameservers": ["fd12::10"], "search": ["railway.internal"], "options": ["ndots:1"]}
MEBI = 1 << 20


@pytest.fixture(scope="module")
def environment(mesh: Mesh) -> Iterator[str]:
    """An environment with the services api and web; beside it there is one of strangers."""
    mesh.environment(ENVIRONMENT, "api", "web")
    mesh.environment(STRANGERS, "api")
    yield ENVIRONMENT
    mesh.client.delete("environments", ENVIRONMENT)
    mesh.client.delete("environments", STRANGERS)


class Caller:
    """Runs the plugin on ``node`` as a runtime does for the container whose network is that of ``workload``."""

    def __init__(self, node: Node, workload: Workload, container: str = CONTAINER, network: str = ENVIRONMENT) -> None:
        self._node, self._container = node, container
        self.netns = workload.path
        self._config = {
            "cniVersion": "1.1.0", "name": network, "type": "interlock-cni", "agentDir": AGENT_DIRECTORY,
            "environment": ENVIRONMENT, "service": "api",
        }  # fmt: skip

    def __call__(self, command: str, **config: Any) -> tuple[int, Any]:
        """The exit status of ``command``, and what it printed."""
        variables = (
            f"CNI_COMMAND={command}", f"CNI_CONTAINERID={self._container}", f"CNI_NETNS={self.netns}",
            "CNI_IFNAME=railnet0",
        )  # fmt: skip
        result = self._node.host.run(
            ["env", *variables, str(PLUGIN)], text=json.dumps(self._config | config), check=False
        )
        assert result.stderr == ""
        return result.returncode, json.loads(result.stdout) if result.stdout else None

    def fails(self, command: str, **config: Any) -> tuple[int, str]:
        """The code of the error that ``command`` ends with, and its text."""
        status, error = self(command, **config)
        assert status == 1
        assert error["cniVersion"] == "1.1.0"
        return error["code"], error["msg"]


@pytest.fixture
def node(mesh: Mesh) -> Node:
    return mesh.nodes["h1"]


@pytest.fixture
def workload(node: Node) -> Workload:
    return node.workload()


@pytest.fixture
def cni(node: Node, workload: Workload, environment: str) -> Iterator[Caller]:
    """The plugin, for a container that is not attached; whatever it attaches is detached at the end."""
    caller = Caller(node, workload)
    yield caller
    assert caller("DEL") == (0, None)


def instances(client: Client, service: str = "api") -> dict[str, Any]:
    """The instances of ``service``, by their ids."""
    found = client.get("environments", ENVIRONMENT, "services", service)["instances"]
    return {one["id"]: one for one in found}


# The commands, with a real agent


def test_add_twice(mesh: Mesh, cni: Caller, workload: Workload, programs: dict[str, Build]) -> None:
    status, result = cni("ADD")
    assert status == 0, result
    assert cni("ADD") == (0, result)

    (instance,) = instances(mesh.client).values()
    assert (instance["id"], instance["state"], instance["host"]) == (CONTAINER[:12], "ready", "h1")
    assert [one["address"] for one in result["ips"]] == [f"{instance['address']}/128"]
    assert result["dns"] == DNS
    inside = json.loads(workload.run(["ip", "-j", "address", "show", "dev", "railnet0"]).stdout)[0]
    told = result["interfaces"][result["ips"][0]["interface"]]
    assert told == {"name": "railnet0", "mac": inside["address"], "mtu": inside["mtu"], "sandbox": cni.netns}
    (route,) = json.loads(workload.run(["ip", "-j", "-6", "route", "show", "fd12::/16"]).stdout)
    assert [{"dst": route["dst"], "gw": route["gateway"]}] == result["routes"]

    workload.resolv_conf.write_text("nameserver fd12::10\nsearch railway.internal\noptions ndots:1\n")
    with talking(workload, programs["musl"]) as talker:
        assert talker.lookup("api").words[1:] == (instance["address"],)


def test_del_twice(mesh: Mesh, cni: Caller, workload: Workload) -> None:
    assert cni("DEL") == (0, None)  # of what was never there
    assert cni("ADD")[0] == 0
    for _ in range(2):
        assert cni("DEL") == (0, None)
        assert instances(mesh.client) == {}
        assert "railnet0" not in workload.run(["ip", "link"]).stdout


def test_del_of_a_container_whose_namespace_is_gone(mesh: Mesh, cni: Caller, workload: Workload) -> None:
    assert cni("ADD")[0] == 0
    workload.remove()
    for _ in range(2):
        assert cni("DEL") == (0, None)
        assert instances(mesh.client) == {}


def test_check_twice(cni: Caller, workload: Workload) -> None:
    _, result = cni("ADD")
    for _ in range(2):
        assert cni("CHECK", prevResult=result) == (0, None)


def test_check_sees_what_is_broken_and_add_mends_it(cni: Caller, workload: Workload) -> None:
    _, result = cni("ADD")
    workload.run(["ip", "address", "flush", "dev", "railnet0", "scope", "global"])
    for _ in range(2):
        code, text = cni.fails("CHECK", prevResult=result)
        assert code == ErrorCode.FAILED
        assert "railnet0" in text
    assert cni("ADD") == (0, result)
    assert cni("CHECK", prevResult=result) == (0, None)


def test_check_of_a_container_that_is_not_attached(cni: Caller) -> None:
    _, result = cni("ADD")
    cni("DEL")
    for _ in range(2):
        code, text = cni.fails("CHECK", prevResult=result)
        assert code == ErrorCode.UNKNOWN_CONTAINER
        assert "not attached" in text


def test_gc_detaches_what_the_runtime_does_not_know(mesh: Mesh, node: Node, environment: str) -> None:
    callers = {
        f"{network}-{name}": Caller(node, node.workload(), f"{network}-{name}", network)
        for network in ("one", "other")
        for name in ("kept", "lost")
    }
    for caller in callers.values():
        assert caller("ADD")[0] == 0
    valid = [{"containerID": "one-kept", "ifname": "railnet0"}]
    for _ in range(2):
        assert callers["one-kept"]("GC", **{"cni.dev/valid-attachments": valid}) == (0, None)
        assert set(instances(mesh.client)) == {"one-kept", "other-kept", "other-lost"}
    for caller in callers.values():
        assert caller("DEL") == (0, None)
    assert instances(mesh.client) == {}


def test_status(cni: Caller) -> None:
    for _ in range(2):
        assert cni("STATUS") == (0, None)


def test_status_of_a_host_that_is_drained_and_of_one_without_a_resolver(mesh: Mesh, node: Node, cni: Caller) -> None:
    mesh.interlock("host", "drain", node.name)
    until(lambda: cni("STATUS")[0], "it says that it takes what is new")
    assert cni.fails("STATUS") == (ErrorCode.UNAVAILABLE, "the host is being drained")
    mesh.interlock("host", "undrain", node.name)
    until(lambda: cni("STATUS") == (0, None), "it takes nothing new")
    node.resolver.kill()
    until(lambda: cni("STATUS")[0], "it does not miss its resolver")
    code, text = cni.fails("STATUS")
    assert (code, "no resolver is connected" in text) == (ErrorCode.LIMITED_CONNECTIVITY, True)
    node.resolver.start()
    node.until_ready()


def test_an_agent_that_is_restarted_is_waited_for(mesh: Mesh, node: Node, cni: Caller) -> None:
    node.agent.kill()
    code, _ = cni.fails("STATUS")
    assert code == ErrorCode.UNAVAILABLE
    with ThreadPoolExecutor() as pool:
        adding = pool.submit(cni, "ADD")
        node.agent.start()
        status, result = adding.result()
    assert status == 0, result
    assert instances(mesh.client)[CONTAINER[:12]]["state"] == "ready"
    node.until_ready()


@pytest.mark.parametrize(
    ("config", "code", "told"),
    [
        ({"environment": "nowhere"}, ErrorCode.MISSING, "nowhere"),
        ({"service": "nothing"}, ErrorCode.MISSING, "nothing"),
        ({"service": "Not A Name"}, ErrorCode.INVALID_CONFIGURATION, "Not A Name"),
        ({"build": True}, ErrorCode.REFUSED, "build"),
    ],
)
def test_what_cannot_be_attached(
    mesh: Mesh, cni: Caller, workload: Workload, config: dict[str, Any], code: ErrorCode, told: str
) -> None:
    for _ in range(2):
        assert (error := cni.fails("ADD", **config))[0] == code, error
        assert told in error[1]
    assert instances(mesh.client) == {}
    assert "railnet0" not in workload.run(["ip", "link"]).stdout


def test_an_instance_of_another_host_is_refused(mesh: Mesh, cni: Caller) -> None:
    assert cni("ADD")[0] == 0
    elsewhere = mesh.nodes["h2"]
    code, text = Caller(elsewhere, elsewhere.workload()).fails("ADD")
    assert code == ErrorCode.REFUSED
    assert "h1" in text
    assert instances(mesh.client)[CONTAINER[:12]]["host"] == "h1"


def test_a_link_of_that_name_is_left_alone(mesh: Mesh, cni: Caller, workload: Workload) -> None:
    workload.namespace.ip(["link add railnet0 type veth peer name other0"])
    code, text = cni.fails("ADD")
    assert code == ErrorCode.REFUSED
    assert "railnet0" in text
    assert instances(mesh.client) == {}
    assert "railnet0" in workload.run(["ip", "link"]).stdout


def test_without_a_namespace_nothing_is_attached(mesh: Mesh, cni: Caller) -> None:
    cni.netns = "/run/netns/no-such-one"
    code, text = cni.fails("ADD")
    assert code == ErrorCode.MISSING
    assert "no-such-one" in text
    assert instances(mesh.client) == {}


# podman


@pytest.fixture(scope="module")
def runtimes(
    mesh: Mesh, environment: str, programs: dict[str, Build], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[Podman]]:
    """podman on two hosts, each with a network for the environment, one with a bridge as well, and both images."""
    if reason := podmans.why_not():
        pytest.skip(f"no containers: {reason}")
    ours = {"type": PLUGIN.name, "environment": environment, "capabilities": {"aliases": True}}
    with ExitStack() as stack:
        made = []
        for number, name in enumerate(("h1", "h2"), 1):
            directory = tmp_path_factory.mktemp("podman") / name
            podman = stack.enter_context(podmans.on(mesh.nodes[name], directory))
            podman.add_network("inside", ours)
            podman.add_network("outside", {**ours, "environment": STRANGERS})
            addresses = {"type": "host-local", "subnet": f"10.99.{number}.0/24", "dataDir": f"{directory}/addresses"}
            bridge = {"type": "bridge", "bridge": "cni0", "isGateway": True, "ipam": addresses}
            podman.add_network("both", bridge, {**ours, "interface": "railnet0"})
            for image, program in programs.items():
                podman.add_image(image, program)
            made.append(podman)
        yield made


@pytest.mark.parametrize(("here", "there"), [("glibc", "musl"), ("musl", "glibc")])
def test_containers_reach_each_other_by_name(mesh: Mesh, runtimes: list[Podman], here: str, there: str) -> None:
    left, right = runtimes
    with (
        left.container(here, "inside:interface_name=railnet0", "--network-alias", "api") as api,
        right.container(there, "inside:interface_name=railnet0", "--network-alias", "web") as web,
    ):
        assert {**instances(mesh.client), **instances(mesh.client, "web")}.keys() == {api.id[:12], web.id[:12]}
        for container, other, name in ((api, web, "web"), (web, api, "api")):
            # podman says some of it twice: once from the plugin's result, once from the namespace's file in /etc/netns.
            assert container.resolv_conf == {
                "nameserver": set(DNS["nameservers"]), "search": set(DNS["search"]), "options": set(DNS["options"])
            }  # fmt: skip
            for asked in (name, f"{name}.railway.internal", f"{other.id[:12]}.{name}.railway.internal"):
                said = container.talk("tcp", asked, PORT, MEBI)
                assert said.ok, said.text
                assert [said.words[0]] == other.addresses
            assert container.talk("udp", name, PORT).ok
            assert not container.talk("lookup", "nobody.railway.internal").ok
    for service in ("api", "web"):
        assert instances(mesh.client, service) == {}


def test_containers_of_strangers_are_out_of_reach(mesh: Mesh, runtimes: list[Podman]) -> None:
    left, right = runtimes
    with (
        left.container("musl", "inside", "--network-alias", "web") as web,
        right.container("glibc", "outside", "--network-alias", "api") as stranger,
    ):
        assert web.talk("lookup", "api").stage == "lookup"  # it exists here, too, and has no instance
        assert stranger.talk("lookup", "api").words[1:] == tuple(stranger.addresses)
        for one, other in ((web, stranger), (stranger, web)):
            assert one.talk("tcp", other.addresses[0], PORT, 1, 500).stage == "connect"


def test_a_container_can_have_a_bridge_as_well(mesh: Mesh, runtimes: list[Podman]) -> None:
    left, right = runtimes
    with (
        left.container("musl", "both", "--network-alias", "api") as api,
        right.container("glibc", "inside", "--network-alias", "web") as web,
    ):
        assert web.talk("tcp", "api", PORT, MEBI).ok
        assert api.talk("tcp", "web", PORT, MEBI).ok
        assert api.talk("tcp", "10.99.1.1", 1, 1).text == "connect Connection refused"  # by the bridge's gateway
    assert instances(mesh.client) == {}


def test_a_container_of_no_service_is_not_started(mesh: Mesh, runtimes: list[Podman]) -> None:
    result = runtimes[0].run("run", "--rm", "--network", "inside", *podmans.RUN, "musl", "/talk", check=False)
    assert result.returncode
    assert re.search(r"which service\?", result.stderr)


def test_a_container_that_is_killed_is_answered_for_no_more(mesh: Mesh, runtimes: list[Podman]) -> None:
    left, right = runtimes
    with (
        left.container("musl", "inside", "--network-alias", "api") as api,
        right.container("musl", "inside", "--network-alias", "web") as web,
    ):
        left.run("kill", api.id)
        until(lambda: not instances(mesh.client), "the instance of a container that was killed is still there")
        assert web.talk("lookup", "api").text.startswith("lookup")
