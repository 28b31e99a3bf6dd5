"""The CNI plugin as runtimes start it, a process for each command, on the agent's real socket.

A fake agent answers on the socket: it keeps what is attached, and changes no network. tests/mesh/test_containers.py
tests the plugin with a real agent.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from agent.attach.attachment import Attachment
from agent.cni import plugin as cni
from agent.cni.call import POD_ANNOTATIONS, VERSIONS, ErrorCode
from agent.control import client
from agent.control.client import CONTROL_SOCKET
from agent.control.operations import attachment_of
from agent.control.requests import Attach, Check, Collect, Detach, Request, Status
from agent.control.server import ControlServer
from agent.errors import AgentError, BadRequest, Failed, NotNow, NotThere, Refused

PLUGIN = Path(sys.executable).with_name("interlock-cni")
CONTAINER = "657f26d8469cd253b0350398278372dae09af07fe283fdf7f22a44449aa9c543"
NETNS = "/run/netns/netns-fc07f2df"
ANSWER = {
    "mac": "02:00:00:00:00:02", "host_mac": "02:00:00:00:00:01", "host_interface": "rail0123456789a", "mtu": 1420,
    "gateway": "fe80::1", "prefix": "fd12::/16", "nameserver": "fd12::10", "search": "railway.internal",
    "options": ["ndots:1"], "resolv_conf": None,
}  # fmt: skip
DNS = {"nameservers": ["fd12::10"], "search": ["railway.internal"], "options": ["ndots:1"]}
ROUTES = [{"dst": "fd12::/16", "gw": "fe80::1"}]
BRIDGED: dict[str, Any] = {  # the result of the bridge plugin
    "cniVersion": "1.0.0",
    "interfaces": [{"name": "cni0", "mac": "02:00:00:00:00:09"}, {"name": "eth0", "sandbox": NETNS}],
    "ips": [{"address": "10.88.0.2/16", "gateway": "10.88.0.1", "interface": 1}],
    "routes": [{"dst": "0.0.0.0/0"}],
    "dns": {"nameservers": ["10.88.0.1"]},
}


class FakeAgent:
    """Answers as an agent does. ``attached`` is by container; ``failure``, if set, is raised for every request."""

    def __init__(self) -> None:
        self.attached: dict[str, Attachment] = {}
        self.requests: list[Request] = []
        self.failure: AgentError | None = None
        self.status = {"host": "h1", "ready": True, "reason": "", "limited": False}

    async def handle(self, request: Request) -> Mapping[str, Any]:
        self.requests.append(request)
        if self.failure:
            raise self.failure
        match request:
            case Attach(container=str(container)):
                self.attached[container] = attachment_of(request)
                return {**self._describe(container), "already": False, "steps": {}}
            case Check(container=str(container)):
                if container not in self.attached:
                    raise NotThere(f"{attachment_of(request)} is not attached to this host")
                return self._describe(container)
            case Detach(container=str(container)):
                return {"gone": self.attached.pop(container, None) is not None}
            case Collect(keep=keep, within=within):
                gone = [one for one in self.attached if one.startswith(within) and one not in keep]
                for one in gone:
                    del self.attached[one]
                return {"removed": gone}
            case Status():
                return self.status
        raise AssertionError(request)

    def _describe(self, container: str) -> dict[str, Any]:
        number = list(self.attached).index(container) + 1
        interface = self.attached[container].interface
        return {**ANSWER, "address": f"fd12:1:1:1::{number}", "interface": interface}


class Runtime:
    """Starts the plugin as a runtime does, for the agent in ``directory``."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    async def __call__(
        self, command: str, config: Mapping[str, Any] | bytes | None = None, /, **variables: str | None
    ) -> tuple[int, Any]:
        """The exit status of ``command``, and what it printed. A setting that is None is left out."""
        environ = {"CNI_COMMAND": command, "CNI_CONTAINERID": CONTAINER, "CNI_NETNS": NETNS, "CNI_IFNAME": "eth0"}
        settings = without_none({**environ, **variables})
        given = config if isinstance(config, bytes) else json.dumps(self.config(**(config or {}))).encode()
        process = await asyncio.create_subprocess_exec(
            PLUGIN, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env={"PATH": os.environ["PATH"], **settings},
        )  # fmt: skip
        output, errors = await process.communicate(given)
        assert errors == b"", errors.decode()
        return process.returncode or 0, json.loads(output) if output else None

    def config(self, **settings: Any) -> dict[str, Any]:
        """The network's configuration."""
        names = {"cniVersion": "1.1.0", "name": "production", "type": "interlock-cni"}
        required = {"environment": "production", "service": "api", "agentDir": str(self.directory)}
        return without_none({**names, **required, **settings})


def without_none(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if value is not None}


@pytest.fixture
def agent() -> FakeAgent:
    return FakeAgent()


@pytest_asyncio.fixture
async def cni_(agent: FakeAgent, tmp_path: Path) -> AsyncIterator[Runtime]:
    """The plugin, with a fake agent."""
    server = ControlServer(tmp_path / CONTROL_SOCKET, agent.handle)
    await server.start()
    yield Runtime(tmp_path)
    await server.stop()


# What succeeds


async def test_add_gives_a_result_for_the_newest_version(cni_: Runtime) -> None:
    assert await cni_("ADD") == (0, {
        "cniVersion": "1.1.0",
        "interfaces": [
            {"name": "rail0123456789a", "mac": "02:00:00:00:00:01", "mtu": 1420},
            {"name": "eth0", "mac": "02:00:00:00:00:02", "sandbox": NETNS, "mtu": 1420},
        ],
        "ips": [{"address": "fd12:1:1:1::1/128", "gateway": "fe80::1", "interface": 1}],
        "routes": ROUTES,
        "dns": DNS,
    })  # fmt: skip


@pytest.mark.parametrize(("version", "more"), [("0.3.1", {"version": "6"}), ("0.4.0", {"version": "6"}), ("1.0.0", {})])
async def test_add_gives_a_result_for_each_older_version(cni_: Runtime, version: str, more: dict[str, str]) -> None:
    status, result = await cni_("ADD", {"cniVersion": version})
    assert (status, result["cniVersion"]) == (0, version)
    assert result["ips"] == [{"address": "fd12:1:1:1::1/128", "gateway": "fe80::1", "interface": 1, **more}]
    assert not any("mtu" in one for one in result["interfaces"])


async def test_a_second_add_gives_the_same_result(cni_: Runtime, agent: FakeAgent) -> None:
    assert await cni_("ADD") == await cni_("ADD")
    assert len(agent.attached) == 1


async def test_add_sends_the_agent_an_attach_request(cni_: Runtime, agent: FakeAgent) -> None:
    await cni_("ADD", {"region": "eu"})
    assert agent.requests == [
        Attach(
            environment="production", service="api", instance="657f26d8469c", netns=NETNS, interface="eth0",
            region="eu", container=f"production/{CONTAINER}/eth0",
        )
    ]  # fmt: skip


async def test_add_behind_other_plugins_extends_their_result(cni_: Runtime) -> None:
    config = {"cniVersion": "1.0.0", "interface": "railnet0", "prevResult": BRIDGED}
    status, result = await cni_("ADD", config)
    assert status == 0
    ours = [
        {"name": "rail0123456789a", "mac": "02:00:00:00:00:01"},
        {"name": "railnet0", "mac": "02:00:00:00:00:02", "sandbox": NETNS},
    ]
    assert result["interfaces"] == [*BRIDGED["interfaces"], *ours]
    assert result["ips"] == [
        *BRIDGED["ips"],
        {"address": "fd12:1:1:1::1/128", "gateway": "fe80::1", "interface": 3},
    ]
    assert result["routes"] == [*BRIDGED["routes"], *ROUTES]
    assert result["dns"] == DNS
    assert await cni_("CHECK", {**config, "prevResult": result}) == (0, None)
    assert await cni_("DEL", {**config, "prevResult": result}) == (0, None)


async def test_check_succeeds_for_an_attached_container_also_twice(cni_: Runtime) -> None:
    _, result = await cni_("ADD")
    for _ in range(2):
        assert await cni_("CHECK", {"prevResult": result}) == (0, None)


async def test_check_lets_later_plugins_add_to_the_result(cni_: Runtime) -> None:
    _, result = await cni_("ADD")
    result["interfaces"].insert(0, {"name": "ifb0", "mac": "02:00:00:00:00:05"})
    result["routes"].append({"dst": "192.0.2.0/24"})
    assert await cni_("CHECK", {"prevResult": result}) == (0, None)


@pytest.mark.parametrize(
    ("part", "index", "key", "value", "named"),
    [
        ("interfaces", 1, "mac", "02:00:00:00:00:77", "02:00:00:00:00:02"),
        ("interfaces", 1, "sandbox", "/run/netns/other", NETNS),
        ("interfaces", 0, "name", "veth0", "rail0123456789a"),
        ("ips", 0, "address", "fd12:1:1:1::7/128", "fd12:1:1:1::1/128"),
        ("routes", 0, "dst", "fd99::/16", "fd12::/16"),
    ],
)
async def test_check_compares_with_the_result_of_add(
    cni_: Runtime, part: str, index: int, key: str, value: str, named: str
) -> None:
    _, result = await cni_("ADD")
    result[part][index][key] = value
    status, error = await cni_("CHECK", {"prevResult": result})
    assert (status, error["code"]) == (1, ErrorCode.FAILED)
    assert named in error["msg"]
    assert part in error["msg"]


async def test_del_succeeds_twice_and_for_a_container_that_was_never_attached(cni_: Runtime, agent: FakeAgent) -> None:
    await cni_("ADD")
    assert len(agent.attached) == 1
    for _ in range(2):
        assert await cni_("DEL") == (0, None)
        assert agent.attached == {}
    assert await cni_("DEL", CNI_CONTAINERID="never") == (0, None)


async def test_del_needs_no_namespace_and_no_names(cni_: Runtime, agent: FakeAgent) -> None:
    await cni_("ADD")
    assert await cni_("DEL", {"environment": None, "service": None}, CNI_NETNS=None, CNI_ARGS="x") == (0, None)
    assert agent.attached == {}


async def test_a_container_can_be_in_several_networks(cni_: Runtime, agent: FakeAgent) -> None:
    await cni_("ADD")
    await cni_("ADD", {"name": "staging", "environment": "staging"}, CNI_IFNAME="eth1")
    assert await cni_("DEL") == (0, None)
    assert list(agent.attached) == [f"staging/{CONTAINER}/eth1"]


async def test_gc_keeps_valid_attachments_and_those_of_other_networks(cni_: Runtime, agent: FakeAgent) -> None:
    for container in ("one", "two"):
        await cni_("ADD", CNI_CONTAINERID=container)
    await cni_("ADD", {"name": "production2"}, CNI_CONTAINERID="three")
    valid = {"cni.dev/valid-attachments": [{"containerID": "two", "ifname": "eth0"}]}
    for _ in range(2):
        assert await cni_("GC", valid, CNI_CONTAINERID=None, CNI_NETNS=None, CNI_IFNAME=None) == (0, None)
        assert list(agent.attached) == ["production/two/eth0", "production2/three/eth0"]
    assert await cni_("GC", {"cni.dev/valid-attachments": []}) == (0, None)
    assert list(agent.attached) == ["production2/three/eth0"]


async def test_version_lists_the_supported_versions(cni_: Runtime) -> None:
    expected = {"cniVersion": "1.0.0", "supportedVersions": ["0.3.1", "0.4.0", "1.0.0", "1.1.0"]}
    assert await cni_("VERSION", b'{"cniVersion": "1.0.0"}') == (0, expected)
    assert await cni_("VERSION", b'{"cniVersion": "9.9.9"}') == (0, {**expected, "cniVersion": "9.9.9"})


# Readiness


async def test_status_succeeds_if_containers_can_be_attached(cni_: Runtime, agent: FakeAgent) -> None:
    for _ in range(2):
        assert await cni_("STATUS", CNI_CONTAINERID=None, CNI_NETNS=None, CNI_IFNAME=None) == (0, None)


@pytest.mark.parametrize(("limited", "code"), [(False, 50), (True, 51)])
async def test_status_fails_with_the_agents_reason_if_it_cannot_attach(
    cni_: Runtime, agent: FakeAgent, limited: bool, code: int
) -> None:
    agent.status |= {"ready": False, "reason": "the host is being drained", "limited": limited}
    error = {"cniVersion": "1.1.0", "code": code, "msg": "the host is being drained"}
    assert await cni_("STATUS") == (1, error)


async def test_status_without_an_agent_names_its_socket(tmp_path: Path) -> None:
    status, error = await Runtime(tmp_path)("STATUS")
    assert (status, error["code"]) == (1, 50)
    assert str(tmp_path / CONTROL_SOCKET) in error["msg"]


# Where the names of the instance are given

LABELS = {"cni": {"labels": [{"key": "interlock.service", "value": "web"}, {"key": "app", "value": "x"}]}}
ANNOTATIONS = {POD_ANNOTATIONS: {"interlock.service": "web", "interlock.instance": "w1"}}


@pytest.mark.parametrize(
    ("config", "variables", "service", "instance"),
    [
        ({"service": "web", "instance": "w1"}, {}, "web", "w1"),
        ({}, {"CNI_ARGS": "INTERLOCK_SERVICE=web;INTERLOCK_INSTANCE=w1"}, "web", "w1"),
        ({}, {"CNI_ARGS": "K8S_POD_NAME=x;IgnoreUnknown=1;INTERLOCK_SERVICE=web;"}, "web", "657f26d8469c"),
        ({}, {"CNI_ARGS": "K8S_POD_NAME=x;IgnoreUnknown=True;INTERLOCK_SERVICE=web"}, "web", "657f26d8469c"),
        ({"args": LABELS}, {}, "web", "657f26d8469c"),
        ({"runtimeConfig": ANNOTATIONS}, {}, "web", "w1"),
        ({"service": "web", "runtimeConfig": ANNOTATIONS}, {"CNI_ARGS": "INTERLOCK_SERVICE=web"}, "web", "w1"),
        ({"runtimeConfig": {"aliases": {"production": ["web", CONTAINER[:12]]}}}, {}, "web", "657f26d8469c"),
        ({"service": "api", "runtimeConfig": {"aliases": {"production": ["web"]}}}, {}, "api", "657f26d8469c"),
        ({"runtimeConfig": {"aliases": {"production": ["6"]}}}, {}, "6", "657f26d8469c"),
        ({"service": "web"}, {"CNI_CONTAINERID": "web-1"}, "web", "web-1"),
        ({"service": "web"}, {"CNI_CONTAINERID": f"default-{CONTAINER}"}, "web", "657f26d8469c"),
    ],
)
async def test_where_the_names_of_the_instance_are_given(
    cni_: Runtime, agent: FakeAgent, config: dict[str, Any], variables: dict[str, str], service: str, instance: str
) -> None:
    status, result = await cni_("ADD", {"service": None, **config}, **variables)
    assert status == 0, result
    (attachment,) = agent.attached.values()
    assert (attachment.environment, attachment.service, attachment.instance) == ("production", service, instance)


# What fails

FAILURES = ((BadRequest("x"), 7), (Refused("x"), 100), (NotThere("x"), 101), (Failed("x"), 102))
ARGS = {"CNI_ARGS": "INTERLOCK_ENVIRONMENT=staging"}


@pytest.mark.parametrize(
    ("command", "config", "variables", "code", "named"),
    [
        ("ADD", {"cniVersion": "0.2.0"}, {}, 1, "0.2.0"),
        ("ADD", {"cniVersion": None}, {}, 1, "cniVersion"),
        ("CHECK", {"cniVersion": "0.3.1"}, {}, 1, "0.4.0"),
        ("GC", {"cniVersion": "1.0.0"}, {}, 1, "1.1.0"),
        ("STATUS", {"cniVersion": "1.0.0"}, {}, 1, "1.1.0"),
        ("ADD", {"ipam": {"type": "host-local"}}, {}, 2, "host-local"),
        ("ADD", {"ipMasq": True}, {}, 2, "ipMasq is true"),
        ("CHECK", {"prevResult": BRIDGED}, {}, 3, "not attached"),
        ("", {}, {}, 4, "CNI_COMMAND"),
        ("UPDATE", {}, {}, 4, "CNI_COMMAND"),
        ("ADD", {}, {"CNI_CONTAINERID": None}, 4, "CNI_CONTAINERID"),
        ("ADD", {}, {"CNI_CONTAINERID": "../x"}, 4, "CNI_CONTAINERID"),
        ("DEL", {}, {"CNI_CONTAINERID": ""}, 4, "CNI_CONTAINERID"),
        ("ADD", {}, {"CNI_NETNS": None}, 4, "CNI_NETNS"),
        ("ADD", {}, {"CNI_NETNS": "netns"}, 4, "CNI_NETNS"),
        ("CHECK", {"prevResult": BRIDGED}, {"CNI_NETNS": ""}, 4, "CNI_NETNS"),
        ("ADD", {}, {"CNI_IFNAME": None}, 4, "CNI_IFNAME"),
        ("ADD", {}, {"CNI_IFNAME": ".."}, 4, "CNI_IFNAME"),
        ("ADD", {}, {"CNI_IFNAME": "sixteen-letters0"}, 4, "CNI_IFNAME"),
        ("DEL", {}, {"CNI_IFNAME": "a/b"}, 4, "CNI_IFNAME"),
        ("ADD", {}, {"CNI_ARGS": "INTERLOCK_SERVICE"}, 4, "CNI_ARGS"),
        ("ADD", {}, {"CNI_ARGS": "COLOUR=blue"}, 4, "COLOUR"),
        ("ADD", {}, {"CNI_ARGS": "COLOUR=blue;IgnoreUnknown=0"}, 4, "COLOUR"),
        ("ADD", b"", {}, 6, "not JSON"),
        ("ADD", b'{"cniVersion": "1.1.0"', {}, 6, "not JSON"),
        ("ADD", b"\xff\xfe", {}, 6, "not JSON"),
        ("ADD", b"[]", {}, 6, "not a JSON object"),
        ("ADD", {"name": None}, {}, 7, "name"),
        ("ADD", {"name": "a/b"}, {}, 7, "a/b"),
        ("DEL", {"name": ""}, {}, 7, "name"),
        ("ADD", {"environment": None}, {}, 7, "which environment?"),
        ("ADD", {"service": None}, {}, 7, "INTERLOCK_SERVICE"),
        ("ADD", {"service": None, "runtimeConfig": {"aliases": {"production": [CONTAINER[:12]]}}}, {}, 7, "service?"),
        ("ADD", {"service": 7}, {}, 7, "service is 7"),
        ("ADD", {"build": "yes"}, {}, 7, "build"),
        ("ADD", {"service": "Not A Name"}, {}, 7, "Not A Name"),
        ("ADD", {}, {"CNI_CONTAINERID": "a_b"}, 7, "INTERLOCK_INSTANCE"),
        ("ADD", {}, ARGS, 7, "'staging' by CNI_ARGS"),
        ("ADD", {"prevResult": []}, {}, 7, "prevResult"),
        ("ADD", {"prevResult": {"interfaces": {}}}, {}, 7, "interfaces of prevResult"),
        ("ADD", {"prevResult": BRIDGED}, {}, 7, "an earlier plugin has made eth0"),
        ("ADD", {"interface": "railnet0"}, {}, 7, "interface is for a plugin behind others"),
        ("CHECK", {}, {}, 7, "prevResult"),
        ("GC", {}, {}, 7, "cni.dev/valid-attachments"),
        ("GC", {"cni.dev/valid-attachments": ["one"]}, {}, 7, "cni.dev/valid-attachments"),
    ],
)
async def test_a_faulty_call_fails_with_the_code_and_names_the_fault(
    cni_: Runtime,
    agent: FakeAgent,
    command: str,
    config: dict[str, Any] | bytes,
    variables: dict[str, str],
    code: int,
    named: str,
) -> None:
    other = Attach(environment="production", service="api", instance="other", netns=NETNS)
    agent.attached["production/other/eth0"] = attachment_of(other)
    first, second = [await cni_(command, config, **variables) for _ in range(2)]
    assert first == second
    status, error = first
    assert (status, error["code"]) == (1, code)
    assert named in error["msg"]
    assert error["cniVersion"] in VERSIONS
    assert len(agent.attached) == 1


@pytest.mark.parametrize(
    ("command", "failure", "code"),
    [
        *((command, failure, code) for command in ("ADD", "DEL") for failure, code in FAILURES),
        ("ADD", NotNow("x"), 11),
    ],
)
async def test_an_error_of_the_agent_becomes_the_plugins_error(
    cni_: Runtime, agent: FakeAgent, command: str, failure: AgentError, code: int
) -> None:
    agent.failure = failure
    assert await cni_(command) == (1, {"cniVersion": "1.1.0", "code": code, "msg": "x"})


def test_a_closed_standard_input_is_an_error() -> None:
    command = ["sh", "-c", 'exec "$0" <&-', str(PLUGIN)]
    result = subprocess.run(command, env={"CNI_COMMAND": "ADD"}, capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (1, "")
    assert json.loads(result.stdout)["code"] == ErrorCode.UNREADABLE_INPUT


async def test_add_marks_build_workloads_in_its_request(cni_: Runtime, agent: FakeAgent) -> None:
    agent.failure = Refused("build workloads are not attached")
    status, error = await cni_("ADD", {"build": True})
    assert (status, error["code"]) == (1, 100)
    assert isinstance(agent.requests[0], Attach)
    assert agent.requests[0].build


async def test_add_without_an_agent_fails_with_try_again_later(tmp_path: Path) -> None:
    status, error = await Runtime(tmp_path)("ADD")
    assert (status, error["code"]) == (1, 11)
    assert str(tmp_path / CONTROL_SOCKET) in error["msg"]
    assert "interlock agent" in error["msg"]


async def test_add_waits_for_an_agent_that_is_being_restarted(agent: FakeAgent, tmp_path: Path) -> None:
    path = tmp_path / CONTROL_SOCKET
    is_asked = asyncio.Event()

    async def die(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        is_asked.set()
        writer.close()

    dying = await asyncio.start_unix_server(die, path)
    adding = asyncio.create_task(Runtime(tmp_path)("ADD"))
    await is_asked.wait()
    dying.close()
    server = ControlServer(path, agent.handle)
    await server.start()
    status, result = await adding
    await server.stop()
    assert status == 0, result
    assert len(agent.attached) == 1


# Any input

_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
_KEYS = (
    "cniVersion", "name", "environment", "service", "instance", "interface", "agentDir", "region", "build", "args",
    "runtimeConfig", "prevResult", "ipam", "cni.dev/valid-attachments",
)  # fmt: skip
_right = {
    "cniVersion": st.sampled_from(VERSIONS),
    "name": st.just("production"),
    "args": st.fixed_dictionaries({"cni": st.fixed_dictionaries({"labels": _json})}),
    "runtimeConfig": st.dictionaries(st.sampled_from(["aliases", POD_ANNOTATIONS]), _json),
    "prevResult": st.dictionaries(st.sampled_from(["interfaces", "ips", "routes"]), _json),
}
_configs = st.fixed_dictionaries({}, optional={key: _right.get(key, _json) | _json for key in _KEYS})
_variables = st.dictionaries(
    st.sampled_from(["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_ARGS"]),
    st.text(max_size=8) | st.sampled_from(["eth0", "/run/netns/x", CONTAINER, "INTERLOCK_SERVICE=api"]),
)


@given(st.sampled_from([*cni.COMMANDS, "x"]), _configs, _variables)
def test_any_variables_and_configuration_get_a_result_or_an_error_as_specified(
    command: str, config: dict[str, Any], variables: dict[str, str]
) -> None:
    before, client.RESTART_DEADLINE = client.RESTART_DEADLINE, 0.0
    try:
        if isinstance(config.get("agentDir"), str):
            config["agentDir"] = "/nonexistent"
        else:
            config.setdefault("agentDir", "/nonexistent")
        status, text = cni.run({"CNI_COMMAND": command, **variables}, io.BytesIO(json.dumps(config).encode()))
    finally:
        client.RESTART_DEADLINE = before
    output = json.loads(text)
    assert (command == "VERSION") == (status == 0)
    assert status == 0 or (output["code"] in {*ErrorCode} and output["msg"])


def test_the_plugin_loads_no_slow_modules() -> None:
    script = "import sys, agent.cni.plugin; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert not {"asyncio", "click", "dataclasses", "logging", "msgspec", "pyroute2", "redis", "subprocess"} & set(
        loaded
    )
