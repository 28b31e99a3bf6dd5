"""Releases of the product side by side: this one, and the last one that wrote each environment whole."""

from __future__ import annotations

import io
import signal
import subprocess
import zipfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import dns.message
import dns.query

from interlock.client import Client
from tests.faults.deployments import Prober, StoreServer, events, has_event
from tests.interlock.processes import ROOT, Running, get, python, run_here, started, wait_until
from tests.waiting import scaled

# The last commit before "store: a commit writes what it changes": docs/decisions/0031.
LAST_WHOLE = "7a4f167b03f808b684ee9bbe483cff50912a7a1b"
PACKAGES = ("admin", "agent", "interlock", "resolver", "store", "support", "watcher", "zones")

SMALL, LARGE = "small", "large"
CLIENTS = {SMALL: "127.0.1.1", LARGE: "127.0.1.2"}
CROWD = 300  # instances of the large environment: some 24 KiB of document
ASKED_FOR = 20  # of its names
PAUSE = 0.001  # seconds between two queries of a prober


@dataclass(frozen=True, slots=True)
class Release:
    """A release, which runs with the libraries of this one."""

    directory: Path
    """Where its packages are."""
    module: str = "interlock"
    """What is run."""

    def command(self, *arguments: str) -> tuple[str, ...]:
        """The command that runs it with ``arguments``, in its directory."""
        return python("-m", self.module, *arguments)


THIS = Release(ROOT)
STAND_IN = Release(ROOT, "tests.faults.whole_release")
"""This release with what made the last whole one unable to read differences; for where there is no history."""


def from_history(commit: str, directory: Path) -> Release | None:
    """The release of ``commit``, unpacked into ``directory``; None where the history of this clone does not have it."""
    # Whoever owns the clone: nothing of its configuration is run.
    git = ("git", "-c", f"safe.directory={ROOT}", "-C", str(ROOT), "archive", "--format=zip", commit, *PACKAGES)
    try:
        packed = subprocess.run(git, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    with zipfile.ZipFile(io.BytesIO(packed)) as files:
        files.extractall(directory)
    return Release(directory)


@dataclass
class Installation:
    """A control plane and two resolvers on one store, each of some release, each always at its own address."""

    directory: Path
    server: StoreServer
    admin: str = ""
    """The URL of the admin API."""
    expected: dict[tuple[str, str], frozenset[str]] = field(default_factory=dict)
    """The addresses of names, by client and name."""
    _stack: dict[str, ExitStack] = field(default_factory=dict)
    _running: dict[str, Running] = field(default_factory=dict)
    _dns: dict[str, tuple[str, int]] = field(default_factory=dict)
    _added: int = 0

    def run_admin(self, release: Release, *flags: str) -> None:
        """Runs the control plane of ``release``, in place of the one that runs."""
        listen = self.admin.removeprefix("http://") or "127.0.0.1:0"
        admin = self._replace("admin", release, "admin", "--api-listen", listen, *flags)
        self.admin = f"http://{events(admin, 'http_listening')[0]['address']}"
        wait_until(lambda: get(f"{self.admin}/readyz")[0] == 200)

    def run_resolver(self, name: str, release: Release) -> None:
        """Runs the resolver ``name`` of ``release``, in place of the one that runs."""
        listen = "{}:{}".format(*self._dns.get(name, ("127.0.0.1", 0)))
        bound = [word for id_, client in CLIENTS.items() for word in ("--bind", f"{client}/32={id_}")]
        resolver = self._replace(
            name, release, "resolver", "--dns-listen", listen, "--ops-listen", "127.0.0.1:0", "--upstream", "none",
            *bound,
        )  # fmt: skip
        host, _, port = events(resolver, "dns_listening")[0]["addresses"][0].rpartition(":")
        self._dns[name] = host, int(port)
        wait_until(lambda: get(f"{self._operations(name)}/readyz")[0] == 200)

    def _replace(self, name: str, release: Release, *command: str) -> Running:
        self.stop(name)
        store, state = f"unix://{self.server.socket}", str(self.directory / name)
        arguments = (*command, "--redis", store, "--state-dir", state)
        self._stack[name] = ExitStack()
        process = started(*release.command(*arguments), directory=release.directory)
        running = self._running[name] = self._stack[name].enter_context(process)
        wait_until(lambda: has_event(running, "ready"))
        return running

    def stop(self, name: str) -> None:
        """Stops what runs as ``name``, as systemd does."""
        if running := self._running.pop(name, None):
            assert running.end(signal.SIGTERM) == 0, running.errors
            self._stack.pop(name).close()

    def close(self) -> None:
        """Kills what runs."""
        for stack in self._stack.values():
            stack.close()

    @property
    def client(self) -> Client:
        return Client(self.admin, (self.directory / "admin/admin.token").read_text().strip())

    def prober(self, name: str) -> Prober:
        """A prober of the resolver ``name``, and of the other one where that does not answer."""
        other = next((address for each, address in self._dns.items() if each != name), None)
        return Prober(self._dns[name], self.expected, other, PAUSE)

    def populate(self) -> None:
        """Makes both environments."""
        for id_, number in ((SMALL, 10), (LARGE, CROWD)):
            self.client.put("environments", id_, body={})
            instances = [{"op": "put-instance", "service": "api", "id": f"i{one}"} for one in range(number)]
            edits = [{"op": "put-service", "name": "api"}, *instances]
            results = self.client.post("environments", id_, "batch", body={"edits": edits})["results"][1:]
            for instance in [one["instance"] for one in results[:ASKED_FOR]]:
                self.expected[CLIENTS[id_], f"{instance['id']}.api"] = frozenset({instance["address"]})

    def commit(self, *answering: str) -> None:
        """Commits to both environments, and waits until the resolvers ``answering`` answer it."""
        self._added += 1
        for id_ in CLIENTS:
            name = f"new{self._added}"
            put = self.client.put("environments", id_, "services", "api", "instances", name, body={})
            for resolver in answering:
                wait_until(lambda: self.ask(resolver, id_, f"{name}.api") == [put["address"]])  # noqa: B023

    def ask(self, resolver: str, id_: str, name: str) -> list[str]:
        """The addresses that ``resolver`` gives a client of the environment ``id_``."""
        query = dns.message.make_query(f"{name}.railway.internal", "AAAA")
        address, port = self._dns[resolver]
        reply = dns.query.udp(query, address, port=port, source=CLIENTS[id_], timeout=scaled(5.0))
        return [record.address for rrset in reply.answer for record in rrset]

    @property
    def differences(self) -> int:
        """How many differences the store holds beside the document of the large environment."""
        return int(self.server.run("HLEN", f"interlock:environment:{LARGE}:differences"))

    def fold(self) -> None:
        """``interlock store fold``, of this release."""
        status, _, errors = run_here("store", "fold", "--redis", f"unix://{self.server.socket}")
        assert status == 0, errors

    def is_quarantined(self, name: str) -> bool:
        """Whether the resolver ``name`` says that it holds the large environment at what it read last."""
        documents = [
            line for line in get(f"{self._operations(name)}/readyz?verbose")[1].splitlines() if "documents" in line
        ]
        return f": {LARGE}: " in documents[0]

    def _operations(self, name: str) -> str:
        return f"http://{events(self._running[name], 'http_listening')[0]['address']}"
