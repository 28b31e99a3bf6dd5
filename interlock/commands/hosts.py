"""``interlock host``: the hosts of the platform, each of which its agent registers."""

from __future__ import annotations

import re
from typing import Any

import click

from interlock.client import Client
from interlock.commands.deleting import confirm, show_deleted, yes_option
from interlock.commands.groups import Noun
from interlock.commands.host_agent import ask_agent
from interlock.commands.names import hosts
from interlock.commands.options import API, takes
from interlock.commands.output import json_option, show, table
from interlock.errors import BadSetting
from interlock.settings.table import Settings

COLUMNS = ("id", "region", "endpoint", "public_key", "draining", "live", "enrolled", "environments")

LONGEST_VALID = 7 * 86_400  # seconds; the API refuses more

_host = click.argument("id_", metavar="HOST", shell_complete=hosts)


@click.group(cls=Noun)
def host() -> None:
    """Hosts of the platform: list, get, enrol, assign, drain, undrain, forget. This host: rotate, leave."""


@host.command()
@click.argument("id_", metavar="HOST")
@click.option(
    "--environments",
    metavar="ENVIRONMENT,…",
    help="The environments in which the host may place instances; by default all of them.",
)
@click.option("--valid", metavar="TIME", default="1h", help="How long the token is valid: 30m, 12h, 7d. Default: 1h.")
@takes(*API)
@json_option
def enrol(id_: str, environments: str | None, valid: str, settings: Settings, as_json: bool) -> None:
    """Let a host in: print a token that its agent can use once, and the command to use it with."""
    body: dict[str, Any] = {"seconds": _seconds(valid)}
    if environments is not None:
        body["environments"] = [one.strip() for one in environments.split(",") if one.strip()]
    show(Client.of(settings).post("hosts", id_, "enrolments", body=body), as_json, _print_enrolment)


@host.command()
@_host
@click.argument("environments", metavar="ENVIRONMENT,…|all")
@takes(*API)
@json_option
def assign(id_: str, environments: str, settings: Settings, as_json: bool) -> None:
    """Change in which environments an enrolled host may place instances; those that are there stay."""
    wanted = None if environments == "all" else [one.strip() for one in environments.split(",") if one.strip()]
    show(Client.of(settings).put("hosts", id_, body={"environments": wanted}), as_json, _print_assigned)


@host.command("list")
@takes(*API)
@json_option
def list_(settings: Settings, as_json: bool) -> None:
    """List all hosts; a live one has renewed its lease lately."""
    show(Client.of(settings).get_all("hosts", of="hosts"), as_json, _print_all)


@host.command()
@_host
@takes(*API)
@json_option
def get(id_: str, settings: Settings, as_json: bool) -> None:
    """Show one host."""
    show(Client.of(settings).get("hosts", id_), as_json, _print)


@host.command()
@_host
@takes(*API)
@json_option
def drain(id_: str, settings: Settings, as_json: bool) -> None:
    """Stop new workloads on a host, and leave its workloads out of their services' answers; connections go on."""
    show(Client.of(settings).put("hosts", id_, body={"draining": True}), as_json, _print)


@host.command()
@_host
@takes(*API)
@json_option
def undrain(id_: str, settings: Settings, as_json: bool) -> None:
    """Let a host take new workloads again, and answer with its workloads."""
    show(Client.of(settings).put("hosts", id_, body={"draining": False}), as_json, _print)


@host.command()
@_host
@click.option("--live", is_flag=True, help="Forget it even if it is alive: its workloads are cut off at once.")
@click.option(
    "--instances",
    is_flag=True,
    help="Forget it even if instances are on it: they stay, and are not answered before a host attaches them.",
)
@yes_option
@takes(*API)
@json_option
def forget(id_: str, live: bool, instances: bool, yes: bool, settings: Settings, as_json: bool) -> None:
    """Forget a host, and end its credential."""
    confirm(f"Forget the host {id_}? Its credential ends, and it has to enrol again.", yes=yes)
    confirmed = ["live"] * live + ["instances"] * instances
    Client.of(settings).delete("hosts", id_, query={"confirm": ",".join(confirmed)} if confirmed else None)
    show_deleted(f"the host {id_}", {}, as_json, host=id_)


# This host, through its agent


@host.command()
@takes("agent_dir")
@click.option(
    "--cut-off-peers",
    is_flag=True,
    help="Do so though external peers have this host as their gateway: they need a new configuration then.",
)
@json_option
def rotate(settings: Settings, cut_off_peers: bool, as_json: bool) -> None:
    """Give this host a new WireGuard key. No connection between hosts is lost."""
    done = ask_agent(settings, "rotate", cut_off_peers=cut_off_peers or None)
    show(done, as_json, _print_rotated)


@host.command()
@takes("agent_dir")
@json_option
def leave(settings: Settings, as_json: bool) -> None:
    """Take this host out of the mesh: detach its workloads, remove device, routes and firewall, end the agent."""
    done = ask_agent(settings, "leave")
    show(done, as_json, lambda answer: click.echo(f"left the mesh; {answer['detached']} workloads were detached"))


def _print_rotated(answer: Any) -> None:
    click.echo(f"the public key is now {answer['public_key']}")
    for peer in answer["cut_off"]:
        click.echo(f"cut off until it has a new configuration ('interlock peer config'): {peer}")


def _print(host_: Any) -> None:
    table([host_], COLUMNS)


def _seconds(text: str) -> int:
    """The seconds of a time such as ``30m``, for which a token can be valid. Raises `BadSetting`."""
    found = re.fullmatch("([0-9]{1,9})([smhd]?)", text)
    if not found:
        raise BadSetting(f"{text!r} is not a time: write a number and s, m, h or d, as in 12h")
    seconds = int(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}[found[2]]
    if not 1 <= seconds <= LONGEST_VALID:
        raise BadSetting(f"--valid: a token is valid for 1s to {LONGEST_VALID // 86_400}d, not for {text}")
    return seconds


def _print_enrolment(made: Any) -> None:
    where = "all environments" if made["environments"] is None else ", ".join(made["environments"]) or "no environment"
    click.echo(made["token"])
    click.echo(
        f"run on the host {made['host']}, until {made['until']}, with the address of the control plane:\n"
        f"  interlock agent --host {made['host']} --api https://ADDRESS:PORT --enrol @FILE-WITH-THE-TOKEN …\n"
        f"it may place instances in {where}",
        err=True,
    )
    _print_unknown(made)


def _print_assigned(changed: Any) -> None:
    _print(changed)
    _print_unknown(changed)


def _print_unknown(reply: Any) -> None:
    for id_ in reply.get("unknown", ()):  # a control plane of an earlier release does not say
        click.echo(f"there is no environment {id_!r} yet: is the name right? 'interlock env list' shows them", err=True)


def _print_all(found: Any) -> None:
    table(found["hosts"], COLUMNS)
    for one in found["hosts"]:
        if until := one.get("enrolment_until"):
            click.echo(f"{one['id']}: a token by which it may enrol anew is valid until {until}", err=True)
    for id_ in found["unregistered"]:
        click.echo(f"{id_}: may come, and its agent has not registered it yet", err=True)
    for id_ in found["unreadable"]:
        click.echo(
            f"{id_}: its document in the store cannot be read: restart its agent, which registers it again", err=True
        )
