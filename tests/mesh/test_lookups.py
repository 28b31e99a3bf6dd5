"""Look-ups and deploys of all hosts, seen at the control plane: real agents, real resolvers, real workloads."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any
from urllib.request import urlopen

from interlock.client import Client
from tests.mesh.doctor import deployed
from tests.mesh.mesh import DEADLINE, Mesh, until
from tests.mesh.topology import Workload
from tests.resolver.messages import query

ZONE = "railway.internal."


class Watching:
    """What came of a stream so far."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []

    def of(self, name: str) -> list[dict[str, Any]]:
        """The look-ups of ``name``."""
        return [one for one in self.lines if one.get("name") == f"{name}.{ZONE}"]

    @property
    def heard(self) -> list[str]:
        """The hosts that are heard."""
        found = [one["heard"] for one in self.lines if "heard" in one]
        return found[-1] if found else []


@contextmanager
def watching(client: Client, *path: str) -> Iterator[Watching]:
    """The stream at ``path``, read in a thread until the end of the ``with``."""
    seen = Watching()

    def read(lines: Iterator[Any]) -> None:
        with suppress(OSError, ValueError, AttributeError):  # it was closed below
            for line in lines:
                seen.lines.append(line)

    with client.stream(*path) as lines:
        threading.Thread(target=read, args=(lines,), daemon=True).start()
        yield seen


def ask(workload: Workload, name: str) -> None:
    """Looks ``name`` up from inside ``workload``."""

    def send() -> None:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            sock.settimeout(DEADLINE)
            sock.sendto(query(name), ("fd12::10", 53))
            sock.recv(4096)

    workload.call(send)


def tenant(mesh: Mesh, environment: str) -> Client:
    """A client with a token of ``environment``."""
    made = mesh.client.post("environments", environment, "tokens", body={"name": "test"})
    return replace(mesh.client, token=made["token"])


def test_a_failed_look_up_on_any_host_is_seen_at_the_control_plane_by_those_who_may(mesh: Mesh) -> None:
    with (
        deployed(mesh, "seen", "h1", "h2") as workloads,
        deployed(mesh, "other", "h2") as others,
        watching(mesh.client, "lookups") as all_,
        watching(tenant(mesh, "seen"), *_path("seen")) as own,
    ):
        until(lambda: {"h1", "h2"} <= set(all_.heard), lambda: f"not heard: {all_.lines}")
        until(lambda: own.heard == ["h1", "h2"], lambda: f"not heard: {own.lines}")
        for host, workload in workloads.items():
            ask(workload, f"nosuch-{host}")
        ask(others["h2"], "nosuch-other")
        for name in ("nosuch-h1", "nosuch-h2", "nosuch-other"):
            until(lambda name=name: all_.of(name), lambda: f"not seen: {all_.lines}")  # type: ignore[misc]
        until(lambda: own.of("nosuch-h1") and own.of("nosuch-h2"), lambda: f"not seen: {own.lines}")
        (one,) = own.of("nosuch-h2")
        assert (one["host"], one["environment"], one["rcode"]) == ("h2", "seen", "NXDOMAIN")
        assert one["source"] == workloads["h2"].address
        assert one["reason"]
        # All look-ups before one that is seen have come by then, for each host sends them in their order.
        ask(workloads["h2"], "last")
        until(lambda: own.of("last"), lambda: f"not seen: {own.lines}")
        assert {line["environment"] for line in own.lines if "name" in line} == {"seen"}


def test_nothing_is_sent_while_nobody_watches_and_an_agent_that_comes_back_is_asked_again(mesh: Mesh) -> None:
    with deployed(mesh, "quiet", "h3") as workloads:
        before = mesh_metric(mesh, "interlock_lookups_taken_total")
        for _ in range(5):
            ask(workloads["h3"], "unseen")
        assert mesh_metric(mesh, "interlock_lookups_taken_total") == before
        with watching(mesh.client, *_path("quiet")) as seen:
            until(lambda: seen.heard == ["h3"], lambda: f"not heard: {seen.lines}")
            mesh.nodes["h3"].agent.stop()
            mesh.nodes["h3"].agent.start()
            mesh.nodes["h3"].until_ready()

            def is_seen() -> bool:
                ask(workloads["h3"], "again")
                return bool(seen.of("again"))

            until(is_seen, lambda: f"not seen: {seen.lines}")
            assert not seen.of("unseen")


def test_the_last_attaches_of_all_hosts_are_shown_by_step(mesh: Mesh) -> None:
    with deployed(mesh, "timed", "h1", "h2") as workloads, deployed(mesh, "untimed", "h2"):
        found = mesh.client.get("deploys", query={"environment": "timed"})
        assert found == tenant(mesh, "timed").get("environments", "timed", "deploys")
        shown = {one["host"]: one for one in found["deploys"] if one["environment"] == "timed"}
        assert {one["environment"] for one in found["deploys"]} == {"timed"}
        assert (set(shown), found["unheard"]) == ({"h1", "h2"}, [])
        for host, one in shown.items():
            assert (one["address"], one["problem"]) == (workloads[host].address, "")
            steps = {step["step"]: step for step in one["steps"]}
            assert list(steps) == ["record", "connect", "path", "ready", "answer", "lookup"]
            told = workloads[host].attach_answer["steps"]
            assert {name: step["milliseconds"] for name, step in steps.items()} == {
                name: took for name, took in told.items() if name != "total"
            }
            assert all(step["begins_ms"] + step["milliseconds"] <= one["milliseconds"] + 1 for step in steps.values())
        (propagation,) = found["propagation"]
        assert propagation["commits"] >= 2
        everything = mesh.client.get("deploys")
        assert {one["environment"] for one in everything["deploys"]} >= {"timed", "untimed"}
        assert [one["hosts"] for one in everything["propagation"]] == ["each", "all"]


def _path(environment: str) -> tuple[str, ...]:
    return ("environments", environment, "lookups")


def mesh_metric(mesh: Mesh, name: str) -> float:
    """The value of a metric of the control plane that has no labels."""
    text = mesh.underlay.namespace.call(lambda: urlopen(f"{mesh.client.url}/metrics", timeout=DEADLINE).read().decode())
    return next(float(line.split()[1]) for line in text.splitlines() if line.startswith(f"{name} "))
