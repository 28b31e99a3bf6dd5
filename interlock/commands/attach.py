"""``interlock attach``, ``detach`` and ``mesh``: what is done on a host, by its agent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from interlock.commands.host_agent import ask_agent
from interlock.commands.options import takes
from interlock.commands.output import json_option, show, table
from interlock.commands.target import environment_of
from interlock.settings.table import Settings

PEERS = ("host", "endpoint", "addresses", "handshake_age", "received", "sent", "hosts_revision", "live")
ENVIRONMENTS = ("id", "revision", "lagging")
ATTACHMENTS = ("instance", "address", "link", "phase")

INTERFACE = "railnet0"
_NETNS = Path("/run/netns")  # where ip-netns(8) keeps them
_service = click.option("--service", metavar="NAME", required=True, help="The service that the workload is a copy of.")
_instance = click.option("--instance", metavar="ID", required=True, help="Which of its instances the workload is.")


@click.command()
@_service
@_instance
@click.option(
    "--netns", metavar="PATH", required=True, help="The workload's network namespace: a path or an ip-netns name."
)
@click.option("--resolv-conf", metavar="FILE", help="The workload's resolv.conf; by default the one of ip-netns(8).")
@click.option("--interface", metavar="NAME", default=INTERFACE, show_default=True, help="The workload's link.")
@click.option("--build", is_flag=True, help="It is a build, which is refused: see the message.")
@takes("environment", "region", "agent_dir")
@json_option
def attach(
    service: str,
    instance: str,
    netns: str,
    resolv_conf: str | None,
    interface: str,
    build: bool,
    settings: Settings,
    as_json: bool,
) -> None:
    """Give a workload of this host its place: link, address, names. Returns once all hosts reach it by name."""
    done = ask_agent(
        settings,
        "attach",
        until_ready=True,
        environment=environment_of(settings),
        service=service,
        instance=instance,
        netns=netns if "/" in netns else str(_NETNS / netns),
        resolv_conf=str(Path(resolv_conf).absolute()) if resolv_conf else None,
        interface=interface,
        region=settings.region,
        build=build,
    )
    show(done, as_json, _print_attached)


@click.command()
@_service
@_instance
@takes("environment", "agent_dir")
@json_option
def detach(service: str, instance: str, settings: Settings, as_json: bool) -> None:
    """Take a workload of this host off the network: first its names, then the way to it."""
    environment = environment_of(settings)
    named = {"environment": environment, "service": service, "instance": instance}
    done = ask_agent(settings, "detach", until_ready=True, **named)
    show(done, as_json, lambda told: click.echo("detached" if told["gone"] else "it was not attached to this host"))


@click.command()
@takes("agent_dir")
@json_option
def mesh(settings: Settings, as_json: bool) -> None:
    """Show the mesh as this host sees it: hosts, environments, workloads, what is wrong and what to do."""
    show(ask_agent(settings, "mesh"), as_json, _print_mesh)


def _print_attached(done: Any) -> None:
    again = "is attached already" if done["already"] else "is attached"
    click.echo(f"{done['address']} {again}, on {done['interface']} (MTU {done['mtu']})")
    click.echo(f"resolv.conf: {done['resolv_conf'] or 'not written: name it with --resolv-conf'}")
    click.echo("milliseconds: " + ", ".join(f"{name} {taken:g}" for name, taken in done["steps"].items()))


def _print_mesh(told: Any) -> None:
    click.echo(f"host {told['host']} at {told['endpoint']}, device {told['device']} (MTU {told['mtu']})")
    click.echo(f"public key {told['public_key']}\n")
    table([{**peer, "host": peer["host"] or "(external)"} for peer in told["peers"]], PEERS)
    for name, columns in (("environments", ENVIRONMENTS), ("attachments", ATTACHMENTS)):
        click.echo()
        table(told[name], columns)
    dropped = ", ".join(f"{chain} {count}" for chain, count in told["drops"].items() if count)
    click.echo(f"\npackets dropped: {dropped or 'none'}")
    for problem in told["problems"]:
        click.echo(f"! {problem}")
    if not told["problems"]:
        click.echo("nothing is wrong")
