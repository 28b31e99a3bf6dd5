"""Containers in the mesh: the CNI plugin's commands with a real agent, and podman, which runs the plugin."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
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
from tests.waiting import SLOWNESS

CONTAINER = "657f26d8469cd253b0350398278372dae09af07fe283fdf7f22a44449aa9c543"
ENVIRONMENT = "containers"
OTHER_ENVIRONMENT = "other-containers"
DNS = {"nameservers": ["fd12::10"], "search": ["railway.internal"], "options": ["ndots:1"]}
MEBI = 1 << 20


@pytest.fixture(scope="module")
def environment(mesh: Mesh) -> Iterator[str]:
    """An environment with the services api and web; beside it there is another one with api."""
    mesh.environment(ENVIRONMENT, "api", "web")
    mesh.environment(OTHER_ENVIRONMENT, "api")
    yield ENVIRONMENT
    mesh.client.delete("environments", ENVIRONMENT)
    mesh.client.delete("environments", OTHER_ENVIRONMENT)


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


def test_add_attaches_the_container_and_a_second_add_gives_the_same_result(
    mesh: Mesh, cni: Caller, workload: Workload, programs: dict[str, Build]
) -> None:
    status, result = cni("ADD")
    assert status == 0, result
    assert cni("ADD") == (0, result)

    (instance,) = instances(mesh.client).values()
    assert (instance["id"], instance["state"], instance["host"]) == (CONTAINER[:12], "ready", "h1")
    assert [one["address"] for one in result["ips"]] == [f"{instance['address']}/128"]
    assert result["dns"] == DNS
    inside = json.loads(workload.run(["ip", "-j", "address", "show", "dev", "railnet0"]).stdout)[0]
    interface = result["interfaces"][result["ips"][0]["interface"]]
    assert interface == {"name": "railnet0", "mac": inside["address"], "mtu": inside["mtu"], "sandbox": cni.netns}
    (route,) = json.loads(workload.run(["ip", "-j", "-6", "route", "show", "fd12::/16"]).stdout)
    assert [{"dst": route["dst"], "gw": route["gateway"]}] == result["routes"]

    workload.resolv_conf.write_text("nameserver fd12::10\nsearch railway.internal\noptions ndots:1\n")
    with talking(workload, programs["musl"]) as talker:
        assert talker.lookup("api").words[1:] == (instance["address"],)


def test_del_detaches_the_container_and_a_second_del_succeeds(mesh: Mesh, cni: Caller, workload: Workload) -> None:
    assert cni("DEL") == (0, None)  # of a container that was never attached
    assert cni("ADD")[0] == 0
    for _ in range(2):
        assert cni("DEL") == (0, None)
        assert instances(mesh.client) == {}
        assert "railnet0" not in workload.run(["ip", "link"]).stdout


def test_del_succeeds_after_the_namespace_is_gone(mesh: Mesh, cni: Caller, workload: Workload) -> None:
    assert cni("ADD")[0] == 0
    workload.remove()
    for _ in range(2):
        assert cni("DEL") == (0, None)
        assert instances(mesh.client) == {}


def test_check_succeeds_for_an_attached_container_also_twice(cni: Caller, workload: Workload) -> None:
    _, result = cni("ADD")
    for _ in range(2):
        assert cni("CHECK", prevResult=result) == (0, None)


def test_check_reports_what_is_broken_and_add_repairs_it(cni: Caller, workload: Workload, tmp_path: Path) -> None:
    _, result = cni("ADD")
    # Again and again: the agent finds it by itself within two seconds, and the plugin can take as long.
    (on := tmp_path / "on").touch()
    loop = f"while [ -e {on} ]; do ip address flush dev railnet0 scope global; sleep 0.02; done"
    with tempfile.TemporaryFile() as log, workload.popen(["sh", "-c", loop], log) as process:
        try:
            for _ in range(2):
                error = until(lambda: cni("CHECK", prevResult=result)[1], "CHECK reports nothing")
                assert error["code"] == ErrorCode.FAILED
                assert "railnet0" in error["msg"]
        finally:
            on.unlink()  # and not killed: its last `ip` could break again what is repaired
            process.wait()
    assert cni("ADD") == (0, result)
    assert cni("CHECK", prevResult=result) == (0, None)


def test_check_fails_for_a_container_that_is_not_attached(cni: Caller) -> None:
    _, result = cni("ADD")
    cni("DEL")
    for _ in range(2):
        code, text = cni.fails("CHECK", prevResult=result)
        assert code == ErrorCode.UNKNOWN_CONTAINER
        assert "not attached" in text


def test_gc_detaches_the_containers_that_the_runtime_does_not_know(mesh: Mesh, node: Node, environment: str) -> None:
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


def test_status_succeeds_for_a_host_that_is_ready(cni: Caller) -> None:
    for _ in range(2):
        assert cni("STATUS") == (0, None)


def test_status_fails_for_a_drained_host_and_for_a_host_without_a_resolver(mesh: Mesh, node: Node, cni: Caller) -> None:
    mesh.interlock("host", "drain", node.name)
    until(lambda: cni("STATUS")[0], "it still accepts containers")
    assert cni.fails("STATUS") == (ErrorCode.UNAVAILABLE, "the host is being drained")
    mesh.interlock("host", "undrain", node.name)
    until(lambda: cni("STATUS") == (0, None), "it accepts no containers")
    node.resolver.kill()
    until(lambda: cni("STATUS")[0], "it does not notice that its resolver is gone")
    code, text = cni.fails("STATUS")
    assert (code, "no resolver is connected" in text) == (ErrorCode.LIMITED_CONNECTIVITY, True)
    node.resolver.start()
    node.until_ready()


def test_add_waits_for_an_agent_that_is_restarted(mesh: Mesh, node: Node, cni: Caller) -> None:
    for _ in range(5):
        node.agent.kill()
        code, _ = cni.fails("STATUS")
        assert code == ErrorCode.UNAVAILABLE
        with ThreadPoolExecutor() as pool:
            adding = pool.submit(cni, "ADD")
            node.agent.start()
            status, result = adding.result()
        if status == 0:
            break
        # It waits for some seconds, and on a busy machine an agent takes longer to start; then it says so.
        assert result["code"] == ErrorCode.TRY_AGAIN_LATER, result
        node.until_ready()
    if status and SLOWNESS > 1:
        pytest.skip("an agent takes longer to start here than ADD waits, in five of five times")
    assert status == 0, result
    assert instances(mesh.client)[CONTAINER[:12]]["state"] == "ready"
    node.until_ready()


@pytest.mark.parametrize(
    ("config", "code", "named"),
    [
        ({"environment": "nowhere"}, ErrorCode.MISSING, "nowhere"),
        ({"service": "nothing"}, ErrorCode.MISSING, "nothing"),
        ({"service": "Not A Name"}, ErrorCode.INVALID_CONFIGURATION, "Not A Name"),
        ({"build": True}, ErrorCode.REFUSED, "build"),
    ],
)
def test_add_says_why_a_container_cannot_be_attached(
    mesh: Mesh, cni: Caller, workload: Workload, config: dict[str, Any], code: ErrorCode, named: str
) -> None:
    for _ in range(2):
        assert (error := cni.fails("ADD", **config))[0] == code, error
        assert named in error[1]
    assert instances(mesh.client) == {}
    assert "railnet0" not in workload.run(["ip", "link"]).stdout


def test_add_refuses_an_instance_that_another_host_has(mesh: Mesh, cni: Caller) -> None:
    assert cni("ADD")[0] == 0
    elsewhere = mesh.nodes["h2"]
    code, text = Caller(elsewhere, elsewhere.workload()).fails("ADD")
    assert code == ErrorCode.REFUSED
    assert "h1" in text
    assert instances(mesh.client)[CONTAINER[:12]]["host"] == "h1"


def test_add_leaves_a_link_alone_that_has_the_name_already(mesh: Mesh, cni: Caller, workload: Workload) -> None:
    workload.namespace.ip(["link add railnet0 type veth peer name other0"])
    code, text = cni.fails("ADD")
    assert code == ErrorCode.REFUSED
    assert "railnet0" in text
    assert instances(mesh.client) == {}
    assert "railnet0" in workload.run(["ip", "link"]).stdout


def test_add_without_a_namespace_attaches_nothing(mesh: Mesh, cni: Caller) -> None:
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
    plugin = {"type": PLUGIN.name, "environment": environment, "capabilities": {"aliases": True}}
    with ExitStack() as stack:
        made = []
        for number, name in enumerate(("h1", "h2"), 1):
            directory = tmp_path_factory.mktemp("podman") / name
            podman = stack.enter_context(podmans.on(mesh.nodes[name], directory))
            podman.add_network("inside", plugin)
            podman.add_network("outside", {**plugin, "environment": OTHER_ENVIRONMENT})
            addresses = {"type": "host-local", "subnet": f"10.99.{number}.0/24", "dataDir": f"{directory}/addresses"}
            bridge = {"type": "bridge", "bridge": "cni0", "isGateway": True, "ipam": addresses}
            podman.add_network("both", bridge, {**plugin, "interface": "railnet0"})
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
            # podman writes some lines twice: from the plugin's result, and from the namespace's file in /etc/netns.
            assert container.resolv_conf == {
                "nameserver": set(DNS["nameservers"]), "search": set(DNS["search"]), "options": set(DNS["options"])
            }  # fmt: skip
            for full_name in (name, f"{name}.railway.internal", f"{other.id[:12]}.{name}.railway.internal"):
                reply = container.talk("tcp", full_name, PORT, MEBI)
                assert reply.ok, reply.text
                assert [reply.words[0]] == other.addresses
            assert container.talk("udp", name, PORT).ok
            assert not container.talk("lookup", "nobody.railway.internal").ok
    for service in ("api", "web"):
        assert instances(mesh.client, service) == {}


def test_containers_of_another_environment_cannot_be_reached(mesh: Mesh, runtimes: list[Podman]) -> None:
    left, right = runtimes
    with (
        left.container("musl", "inside", "--network-alias", "web") as web,
        right.container("glibc", "outside", "--network-alias", "api") as stranger,
    ):
        assert web.talk("lookup", "api").stage == "lookup"  # the service exists here too, but has no instance
        assert stranger.talk("lookup", "api").words[1:] == tuple(stranger.addresses)
        for one, other in ((web, stranger), (stranger, web)):
            assert one.talk("tcp", other.addresses[0], PORT, 1, 500).stage == "connect"


def test_a_container_can_have_a_bridge_too(mesh: Mesh, runtimes: list[Podman]) -> None:
    left, right = runtimes
    with (
        left.container("musl", "both", "--network-alias", "api") as api,
        right.container("glibc", "inside", "--network-alias", "web") as web,
    ):
        assert web.talk("tcp", "api", PORT, MEBI).ok
        assert api.talk("tcp", "web", PORT, MEBI).ok
        assert api.talk("tcp", "10.99.1.1", 1, 1).text == "connect Connection refused"  # by the bridge's gateway
    assert instances(mesh.client) == {}


def test_a_container_without_a_service_is_not_started(mesh: Mesh, runtimes: list[Podman]) -> None:
    result = runtimes[0].run("run", "--rm", "--network", "inside", *podmans.RUN, "musl", "/talk", check=False)
    assert result.returncode
    assert re.search(r"which service\?", result.stderr)


def test_the_name_of_a_killed_container_is_no_longer_answered(mesh: Mesh, runtimes: list[Podman]) -> None:
    left, right = runtimes
    with (
        left.container("musl", "inside", "--network-alias", "api") as api,
        right.container("musl", "inside", "--network-alias", "web") as web,
    ):
        left.run("kill", api.id)
        until(lambda: not instances(mesh.client), "the instance of the killed container is still in the store")
        assert web.talk("lookup", "api").text.startswith("lookup")
