"""``interlock attach``, ``detach`` and ``mesh``: requests to the agent of this host."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from interlock.commands.host_agent import ask_agent
from interlock.commands.options import takes
from interlock.commands.output import json_option, show, table
from interlock.commands.target import environment_of
from interlock.commands.waiting import progress
from interlock.settings.table import Settings

PEERS = ("host", "endpoint", "addresses", "handshake_age", "received", "sent", "hosts_revision", "live")
ENVIRONMENTS = ("id", "revision", "lagging")
ATTACHMENTS = ("instance", "address", "link", "phase")

UNKNOWN = "unknown"  # what the agent has to ask the store for, while the store does not answer

INTERFACE = "railnet0"
_NETNS = Path("/run/netns")  # where ip-netns(8) keeps them
_service = click.option("--service", metavar="NAME", required=True, help="The service that the workload belongs to.")
_instance = click.option(
    "--instance", metavar="ID", required=True, help="The id of the instance of that service that the workload is."
)


@click.command()
@_service
@_instance
@click.option(
    "--netns", metavar="PATH", required=True, help="The workload's network namespace: a path or an ip-netns name."
)
@click.option("--resolv-conf", metavar="FILE", help="The workload's resolv.conf; by default the one of ip-netns(8).")
@click.option(
    "--interface",
    metavar="NAME",
    default=INTERFACE,
    show_default=True,
    help="The name of the link in the workload's namespace.",
)
@click.option(
    "--replace",
    is_flag=True,
    help="Take the place of a live workload that is attached as the same instance from another network namespace.",
)
@click.option("--build", is_flag=True, help="The workload is a build. Builds are refused: the message says why.")
@takes("environment", "region", "agent_dir")
@json_option
def attach(
    service: str,
    instance: str,
    netns: str,
    resolv_conf: str | None,
    interface: str,
    replace: bool,
    build: bool,
    settings: Settings,
    as_json: bool,
) -> None:
    """Connect a workload of this host: link, address, names. Returns once all hosts reach it by name."""
    environment = environment_of(settings)
    with progress(f"attaching {instance!r} of {service!r}"):
        done = ask_agent(
            settings,
            "attach",
            until_ready=True,
            environment=environment,
            service=service,
            instance=instance,
            netns=netns if "/" in netns else str(_NETNS / netns),
            resolv_conf=str(Path(resolv_conf).absolute()) if resolv_conf else None,
            interface=interface,
            region=settings.region,
            replace=replace,
            build=build,
        )
    show(done, as_json, _print_attached)


@click.command()
@_service
@_instance
@click.option(
    "--offline",
    is_flag=True,
    help="Cut it off even if no control plane answers: hosts elsewhere answer its names until one does.",
)
@takes("environment", "agent_dir")
@json_option
def detach(service: str, instance: str, offline: bool, settings: Settings, as_json: bool) -> None:
    """Disconnect a workload of this host: first its names are withdrawn, then its link is removed."""
    environment = environment_of(settings)
    named = {"environment": environment, "service": service, "instance": instance}
    done = ask_agent(settings, "detach", until_ready=True, offline=offline or None, **named)
    show(done, as_json, _print_detached)


@click.command()
@takes("agent_dir")
@json_option
def mesh(settings: Settings, as_json: bool) -> None:
    """Show the mesh as this host sees it: hosts, environments, workloads, problems and what to do about them."""
    show(ask_agent(settings, "mesh"), as_json, _print_mesh)


def _print_attached(done: Any) -> None:
    again = "is attached already" if done["already"] else "is attached"
    click.echo(f"{done['address']} {again}, on {done['interface']} (MTU {done['mtu']})")
    click.echo(f"resolv.conf: {done['resolv_conf'] or 'not written: name it with --resolv-conf'}")
    click.echo("milliseconds: " + ", ".join(f"{name} {taken:g}" for name, taken in done["steps"].items()))


def _print_detached(done: Any) -> None:
    if not done["gone"]:
        click.echo("the workload was not attached to this host")
    elif done.get("recorded"):  # an agent of an earlier release does not say
        click.echo("cut off; its names are answered elsewhere until a control plane answers this host")
    else:
        click.echo("detached")


def _print_mesh(view: Any) -> None:
    click.echo(f"host {view['host']} at {view['endpoint']}, device {view['device']} (MTU {view['mtu']})")
    click.echo(f"public key {view['public_key']}\n")
    table([_peer_row(peer) for peer in view["peers"]], PEERS)
    click.echo()
    table([{**one, "lagging": _known(one["lagging"])} for one in view["environments"]], ENVIRONMENTS)
    click.echo()
    table(view["attachments"], ATTACHMENTS)
    dropped = {chain: count for chain, count in view["drops"].items() if count}
    click.echo(f"\npackets dropped since the firewall was made: {'' if dropped else 'none'}")
    for chain, count in dropped.items():
        click.echo(f"  {count} {chain}: {view['drop_meanings'].get(chain, '')}")
    for problem in view["problems"]:
        click.echo(f"! {problem}")
    if not view["problems"]:
        click.echo("no problems")


def _peer_row(peer: dict[str, Any]) -> dict[str, Any]:
    return {**peer, "live": _known(peer["live"])} if peer["host"] else {**peer, "host": "(external)"}


def _known(value: Any) -> Any:
    return UNKNOWN if value is None else value
