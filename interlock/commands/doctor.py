"""``interlock doctor``: why something does not work, and what to do about it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from interlock.commands.options import takes
from interlock.commands.output import cell, json_option, show
from interlock.doctor.gather import examine
from interlock.doctor.subject import Subject
from interlock.errors import BadSetting
from interlock.settings.table import Settings

SIGNS = {"ok": "✓", "unknown": "?", "warning": "!", "broken": "✗"}

_NETNS = Path("/run/netns")  # where ip-netns(8) keeps them


@click.command()
@click.argument("name", required=False)
@click.option(
    "--netns", metavar="PATH", help="Examine the workload in this network namespace: a path or an ip-netns name."
)
@click.option("--from", "source", metavar="CLIENT", help="Examine for this client: its address, or INSTANCE.SERVICE.")
@click.option("--to", "target", metavar="TARGET", help="What the client connects to: an address, or INSTANCE.SERVICE.")
@click.option("--port", type=click.IntRange(1, 65535), help="The port that it connects to; by default the service's.")
@click.option("--host", metavar="HOST", help="Have the control plane ask the agent of this host.")
@click.option("--verbose", "-v", is_flag=True, help="Show also what is as it should be.")
@takes("environment", "agent_dir", "api", "token", "state_dir", "dns_listen", "ops_listen", "zone")
@json_option
@click.pass_context
def doctor(
    context: click.Context,
    name: str | None,
    netns: str | None,
    source: str | None,
    target: str | None,
    port: int | None,
    host: str | None,
    verbose: bool,
    settings: Settings,
    as_json: bool,
) -> None:
    """Say what is wrong, and how to mend it: on this machine, or with NAME, a workload, a client, a pair.

    It takes less than two seconds, and changes nothing. It ends with 0 if all is well, with 1 if clients are served and
    something needs attention, and with 2 if something does not work.
    """
    if target and not source:
        raise BadSetting("who connects to it? give --from CLIENT beside --to")
    if name and (target or netns):
        raise BadSetting("give NAME, or --netns, or --from and --to")
    began = time.monotonic()
    subject = Subject(name, _path(netns), source, target, port, host)
    report = examine(settings, subject)
    result = {**report.as_json(), "seconds": round(time.monotonic() - began, 3)}
    show(result, as_json, lambda value: print_report(value, verbose=verbose))
    context.exit(report.exit_status)


def print_report(report: Any, *, verbose: bool) -> None:
    """Prints the cause with its fix, then what else is wrong, and with ``verbose`` all that was looked at."""
    cause = report["cause"]
    if cause is None:
        click.echo(f"all is well: {len(report['marks'])} checks in {report['seconds']:g} s")
    else:
        print_mark(cause)
    others = [mark for mark in report["marks"] if mark != cause and mark["standing"] != "ok"]
    if others:
        click.echo("\nalso, perhaps because of that:")
    for mark in others:
        print_mark(mark)
    if verbose:
        click.echo("\nas it should be:")
        for mark in report["marks"]:
            if mark["standing"] == "ok":
                print_mark(mark)


def print_mark(mark: Any) -> None:
    """Prints one mark: what was found, and below it what to do."""
    click.echo(f"{SIGNS[mark['standing']]} {mark['check']}: {cell(mark['detail'])}")
    if mark["fix"]:
        click.echo(f"  fix: {cell(mark['fix'])}")


def _path(netns: str | None) -> str | None:
    return None if netns is None else netns if "/" in netns else str(_NETNS / netns)
