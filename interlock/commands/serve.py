"""``interlock up``, ``resolver``, ``admin`` and ``agent``: commands that serve until they are told to end."""

from __future__ import annotations

import click

from interlock.commands.options import LOGS, PLATFORM, STORE, takes
from interlock.settings.table import Settings

# The servers are imported by the commands that run them: those that only speak to one start twice as fast without.


@click.command()
@takes(
    "dns_listen",
    "api_listen",
    "state_dir",
    *STORE,
    "store_server",
    "bind",
    "upstream",
    "demo",
    *PLATFORM,
    *LOGS,
    part="up",
)
def up(settings: Settings) -> None:
    """Run everything on this machine: store, watcher, DNS server and admin API."""
    from interlock.programs.up import run_up

    run_up(settings)


@click.command()
@takes(
    "dns_listen",
    "ops_listen",
    "state_dir",
    "agent_dir",
    *STORE,
    "bind",
    "upstream",
    *PLATFORM,
    *LOGS,
    part="resolver",
)
def resolver(settings: Settings) -> None:
    """Run the DNS server, on a store that is elsewhere or on what this host's agent tells."""
    from interlock.programs.resolver import run_resolver

    run_resolver(settings)


@click.command()
@takes("api_listen", "state_dir", *STORE, *PLATFORM, *LOGS, part="admin")
def admin(settings: Settings) -> None:
    """Run the admin API, on a store that is elsewhere."""
    from interlock.programs.admin import run_admin

    run_admin(settings)


@click.command()
@takes(
    "host",
    "endpoint",
    "region",
    "agent_dir",
    "agent_group",
    "wireguard",
    "device",
    "ops_listen",
    "state_dir",
    *STORE,
    *PLATFORM,
    *LOGS,
    part="agent",
)
def agent(settings: Settings) -> None:
    """Run the agent of this host: WireGuard, addresses, routes, nftables, and the workloads. Needs root."""
    from interlock.programs.agent import run_agent

    run_agent(settings)
