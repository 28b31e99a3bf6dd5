"""The mesh on one machine: ``interlock up --mesh`` runs an agent and its resolver, which enrol as on any other host.

    up: store, watcher, DNS, admin API, hosts ◄── a session, by TLS ── interlock agent
                                                                            │ the feed of names
                                                                       interlock resolver ◄── workloads, at fd12::10

The API's own token makes the host's; the agent has it in a file, once.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from ipaddress import ip_address
from pathlib import Path

from interlock.client import Client
from interlock.errors import BadSetting, PartFailed
from interlock.parts.programs import ChildProgram
from interlock.process.private_file import private_file
from interlock.process.supervise import Part
from interlock.settings.table import AGENT, RESOLVER, Settings
from interlock.settings.values import reachable
from support.endpoints import AutoEndpoint, Endpoint

HOSTS_LISTEN = Endpoint("127.0.0.1", 8443)
"""Where ``up --mesh`` serves its agent, unless ``--hosts-listen`` says where other hosts are to be served as well."""
WIREGUARD = 51820  # the usual port
DNS_LISTEN = "[::]:53"
"""Where the resolver of the workloads is: at ``fd12::10``, and at the own address of each environment."""


def check_mesh(settings: Settings) -> None:
    """Raises `BadSetting` or `PartFailed` where ``settings`` ask for the mesh, and it cannot be had."""
    if not settings.mesh:
        return
    if settings.host is None:
        raise BadSetting("which host is this? give --host or set INTERLOCK_HOST: its name cannot be an id")
    if any(endpoint.port == 53 and ":" in endpoint.host for endpoint in settings.dns_listen):
        raise BadSetting("--mesh runs the workloads' resolver at [::]:53: choose another port for --dns-listen")
    if os.geteuid():
        raise PartFailed(
            "'interlock up --mesh' changes the network of this machine: run it as root, or leave out --mesh"
        )


def mesh_parts(settings: Settings, api: Callable[[], Client]) -> tuple[Part, ...]:
    """The agent of this machine and its resolver, in the order of their start. ``api`` gives a client of the API."""
    state, host = settings.state_dir, settings.host
    assert host
    token = state / "enrol"
    listening = settings.hosts_listen[0]

    async def enrol() -> Mapping[str, str]:
        # At each start, for the store may have been replaced; an agent whose credential is taken does not use it.
        await asyncio.to_thread(_write_token, api(), host, token)
        return {"enrol": f"@{token}"}

    agent = ChildProgram(
        AGENT,
        settings,
        {
            "host": host,
            "api": f"https://{reachable(*listening)}",
            "endpoint": str(settings.endpoint or _endpoint(listening)),
            "agent_dir": str(settings.agent_dir),
            "state_dir": str(state / AGENT),
            "log_format": settings.log_format,
        },
        prepare=enrol,
        when_ready=lambda: token.unlink(missing_ok=True),
    )
    resolver = ChildProgram(
        RESOLVER,
        settings,
        {
            "agent_dir": str(settings.agent_dir),
            "dns_listen": DNS_LISTEN,
            "bind": "",
            "redis": "",
            "state_dir": str(state / RESOLVER),
            "log_format": settings.log_format,
        },
    )
    return Part(AGENT, agent.run), Part("workloads_resolver", resolver.run)


def _endpoint(listening: Endpoint) -> Endpoint | AutoEndpoint:
    """Where other hosts reach this one: nowhere, as long as none can reach the control plane."""
    if ip_address(listening.host).is_loopback:
        return Endpoint(listening.host, WIREGUARD)
    return AutoEndpoint(WIREGUARD)


def _write_token(api: Client, host: str, path: Path) -> None:
    made = api.post("hosts", host, "enrolments", body={})
    with private_file(path, overwrite=True) as file:
        file.write(made["token"].encode())
