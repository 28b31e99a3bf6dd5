"""``interlock demo mesh``: three hosts on this machine, two environments, a connection by name, and what is kept apart.

    h1  production: api/a1      staging: web/w1
    h2  production: api/a2      staging: api/a1
    h3  production: web/w1

The hosts, their agents and resolvers, and the control plane are those of a real platform, in a sandbox.
"""

from __future__ import annotations

import os
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import click

from agent.control.client import NoAgent, Refusal
from interlock.errors import SandboxFailed
from interlock.sandbox.control_plane import ControlPlane
from interlock.sandbox.enclosure import check, enclosed, say_ready
from interlock.sandbox.hosts import SHARED, Host, Underlay
from interlock.sandbox.members import PORT, Call, Member
from interlock.sandbox.node import AGENT_DIRECTORY, WIREGUARD, Node, Program, interlock
from zones.addresses import Platform

HOSTS = ("h1", "h2", "h3")
PLACES = (
    # environment, service, instance, host
    ("production", "api", "a1", "h1"),
    ("production", "api", "a2", "h2"),
    ("production", "web", "w1", "h3"),
    ("staging", "api", "a1", "h2"),
    ("staging", "web", "w1", "h1"),
)
DIRECTORY = SHARED
API = f"api.{str(Platform().apex).rstrip('.')}"
START_DEADLINE = 60.0  # seconds for a program to start; it takes one or two, unless the machine is very busy
PATIENCE = 2.0  # seconds for a connection that is to be refused; one that is not takes milliseconds
_POLL_INTERVAL = 0.02


def run_demo_mesh(*, once: bool) -> int:
    """Runs the demo until a signal ends it, or, with ``once``, until all was shown; gives the exit status.

    Raises `interlock.errors.NoSandbox`.
    """
    check()
    click.echo("Three hosts on this machine, in namespaces of their own: nothing outside them is touched.\n")
    status = enclosed(interlock("demo", "mesh", "--inside", *(["--once"] if once else [])), _look_around)
    click.echo("\nAll of it is gone.")
    return status


def _look_around(first: int) -> None:
    entering = f"nsenter --target {first} --all{' --preserve-credentials' if os.geteuid() else ''} {DIRECTORY}/on"
    click.echo("\nLook around, in another terminal, as the same user:\n")
    click.echo(f"  {entering} h1 interlock mesh")
    click.echo(f"  {entering} production-web curl http://{API}:{PORT}")
    click.echo("\nCtrl-C ends it, and removes all of it.")


def run_inside(*, once: bool) -> None:
    """The demo itself, in the sandbox. Raises `SandboxFailed`."""
    try:
        Demo().run()
    except (NoAgent, Refusal) as error:
        raise SandboxFailed(f"an agent: {error}") from None
    if not once:
        say_ready()
        signal.pause()  # until it is killed, with all that it has made


@dataclass(slots=True)
class Demo:
    """The platform of the demo, as far as it is made."""

    underlay: Underlay = field(default_factory=Underlay)
    """What joins the hosts."""
    nodes: dict[str, Node] = field(default_factory=dict)
    """The hosts, by name."""
    members: list[Member] = field(default_factory=list)
    """The workloads, in the order of `PLACES`."""
    began: float = field(default_factory=time.monotonic)
    """When it began, by the monotonic clock."""

    def run(self) -> None:
        """Makes the platform, and shows it. Raises `SandboxFailed`."""
        plane = self._start_control_plane()
        self._start_hosts(plane)
        self._attach(plane)
        self._write_on()
        self._show()

    def _start_control_plane(self) -> ControlPlane:
        plane = ControlPlane("up", self.underlay, DIRECTORY, "--dns-listen", "127.0.0.1:1053", "--upstream", "none")
        plane.program.start()
        _wait(lambda: bool(plane.program.events("ready")), "the control plane", plane.program)
        self._say(f"the control plane is ready at {plane.url}")
        return plane

    def _start_hosts(self, plane: ControlPlane) -> None:
        for name in HOSTS:
            host = self.underlay.host(name)
            token = DIRECTORY / f"token-{name}"
            token.write_text(plane.client.post("hosts", name, "enrolments", body={})["token"])
            self.nodes[name] = _node(host, plane, token)
            self.nodes[name].start()
        for node in self.nodes.values():
            _wait(partial(getattr, node, "is_ready"), node.name, node.agent, node.resolver)
        devices = {node.device for node in self.nodes.values()}
        self._say(f"{', '.join(HOSTS)} are enrolled, and joined by WireGuard ({', '.join(sorted(devices))})")

    def _attach(self, plane: ControlPlane) -> None:
        for environment, service in dict.fromkeys(place[:2] for place in PLACES):
            plane.client.put("environments", environment, body={})
            plane.client.put("environments", environment, "services", service, body={})
        with ThreadPoolExecutor(len(PLACES)) as pool:
            self.members = list(pool.map(self._attach_one, PLACES))
        self._say(f"{len(PLACES)} workloads are attached, each with a web server in it\n")
        for member in self.members:
            name = f"{member.instance}.{member.service}"
            click.echo(f"  {member.environment:<12}{name:<10}on {member.node.name}   {member.address}")

    def _attach_one(self, place: tuple[str, str, str, str]) -> Member:
        environment, service, instance, host = place
        return Member.attached(self.nodes[host], environment, service, instance, DIRECTORY)

    def _show(self) -> None:
        production, staging = self._web("production"), self._web("staging")
        click.echo(f"\n{production} requests http://{API}:{PORT}")
        self._expect(production, API)
        click.echo(f"\n{staging} requests the same name, and has its own:")
        self._expect(staging, API)
        click.echo(f"\n{staging} requests what production alone has, by its name and by its address:")
        for host in (f"{self.members[1].instance}.{API}", self.members[1].address):
            if self._call(staging, host).text is not None:
                raise SandboxFailed(f"{staging} has reached {host}, which is production's")
        problems = [problem for node in self.nodes.values() for problem in node.ask("mesh")["problems"]]
        click.echo(f"\nEach host says (interlock mesh): {'; '.join(dict.fromkeys(problems)) or 'no problems'}")

    def _call(self, member: Member, host: str) -> Call:
        call = member.call(host, PATIENCE)
        where = f"[{call.address}]" if call.address and call.address != host else host
        answer = call.text if call.text is not None else f"no connection: {call.error}"
        click.echo(f"  {where:<26} {answer}   ({call.milliseconds:g} ms)")
        return call

    def _expect(self, asking: Member, host: str) -> None:
        """Has ``asking`` request ``host`` until each of its own environment's has answered. Raises `SandboxFailed`."""
        own = [member for member in self.members if (member.environment, member.service) == (asking.environment, "api")]
        every = {f"api/{member.instance} of {member.environment}, on {member.node.name}" for member in own}
        wanted = set(every)
        for _ in range(2 * len(wanted)):  # their order changes with each look-up
            text = self._call(asking, host).text
            if text not in every:
                raise SandboxFailed(f"{asking} was answered {text}")
            wanted.discard(text)
            if not wanted:
                return
        raise SandboxFailed(f"{asking} was never answered by {', '.join(sorted(wanted))}")

    def _web(self, environment: str) -> Member:
        return next(one for one in self.members if (one.environment, one.service) == (environment, "web"))

    def _write_on(self) -> None:
        """A command for whoever looks around: runs another one on a host, or in a workload."""
        cases = "\n".join(self._cases())
        program = DIRECTORY / "on"
        usage = f'echo "usage: {program} {"|".join(self._places())} COMMAND" >&2; exit 78'
        path = shlex.quote(str(Path(sys.executable).parent))
        head = f"#!/bin/sh\nPATH={path}:$PATH:/usr/sbin:/sbin\nplace=$1\nshift\n"
        program.write_text(f"{head}case $place in\n{cases}\n*) {usage} ;;\nesac\n")
        program.chmod(0o755)

    def _places(self) -> Iterator[str]:
        yield from self.nodes
        yield from (f"{member.environment}-{member.service}-{member.instance}" for member in self.members)

    def _cases(self) -> Iterator[str]:
        for name, node in self.nodes.items():
            entering = f"nsenter --target {node.host.first_process} --net --mount --pid"
            yield f'{name}) exec env {_environ(name)} {entering} "$@" ;;'
        for member in self.members:
            name = f"{member.environment}-{member.service}"
            entering = f"env {_environ(member.node.name)} nsenter --net={member.workload.path} unshare --mount sh -c"
            script = f'mount --bind {member.workload.resolv_conf} /etc/resolv.conf && exec "$@"'
            yield f"{name}|{name}-{member.instance}) exec {entering} '{script}' sh \"$@\" ;;"

    def _say(self, what: str) -> None:
        click.echo(f"[{time.monotonic() - self.began:4.1f} s] {what}")


def _environ(host: str) -> str:
    """What 'query' and 'tail' need to find the resolver of ``host``, as arguments of env(1)."""
    resolver = f"[{Platform().resolver}]:53"
    return f"INTERLOCK_DNS_LISTEN={shlex.quote(resolver)} INTERLOCK_STATE_DIR={_state('resolver', host)}"


def _state(program: str, host: str) -> Path:
    return DIRECTORY / f"{program}-{host}"


def _node(host: Host, plane: ControlPlane, token: Path) -> Node:
    def command(program: str, *options: str) -> Sequence[str]:
        state = str(_state(program, host.name))
        return interlock(
            program, "--state-dir", state, "--agent-dir", AGENT_DIRECTORY, "--log-format", "json", *options
        )

    endpoint = f"{host.v4}:{WIREGUARD}"
    agent = command("agent", "--host", host.name, "--endpoint", endpoint, "--api", plane.url, "--enrol", f"@{token}")
    resolver = command("resolver", "--upstream", "none", "--dns-listen", "[::]:53")
    return Node(host, DIRECTORY, host.name, agent, resolver)


def _wait(condition: Callable[[], bool], what: str, *programs: Program) -> None:
    """Returns when ``condition`` holds, which ``programs`` bring about. Raises `SandboxFailed` where it does not."""
    deadline = time.monotonic() + START_DEADLINE
    while not condition():
        ended = [program for program in programs if not program.is_running]
        if ended or time.monotonic() > deadline:
            why = "has ended" if ended else f"is not ready within {START_DEADLINE:.0f} s"
            raise SandboxFailed(f"{what} {why}: {' '.join(one.log[-1000:] for one in ended or programs)}")
        time.sleep(_POLL_INTERVAL)
