"""``interlock up``, ``resolver``, ``admin`` and ``agent``: the commands that serve until a signal ends them."""

from __future__ import annotations

import click

from interlock.commands.options import serves
from interlock.process.first import begin_below_first
from interlock.settings.table import Settings

# Each command imports its program itself: client commands, which need none of them, start twice as fast that way.


@click.command()
@serves("up")
def up(settings: Settings) -> None:
    """Run everything on this machine: store, watcher, DNS server and admin API."""
    begin_below_first()
    from interlock.programs.up import run_up

    run_up(settings)


@click.command()
@serves("resolver")
def resolver(settings: Settings) -> int:
    """Run the DNS server alone, fed by a store that is elsewhere or by the agent of this host."""
    begin_below_first()
    from interlock.programs.launcher import run_resolver

    return run_resolver(settings)


@click.command()
@serves("admin")
def admin(settings: Settings) -> None:
    """Run the admin API alone, on a store that is elsewhere."""
    begin_below_first()
    from interlock.programs.admin import run_admin

    run_admin(settings)


@click.command()
@serves("agent")
def agent(settings: Settings) -> None:
    """Run the agent of this host: WireGuard, addresses, routes, nftables and workloads. Needs root."""
    begin_below_first()
    from interlock.programs.agent import run_agent

    run_agent(settings)
