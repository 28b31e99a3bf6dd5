"""The settings: one table, from which flags, variables, keys of the settings file and ``interlock config`` derive.

The setting ``dns_listen`` is the flag ``--dns-listen``, the variable ``INTERLOCK_DNS_LISTEN`` and the key
``dns-listen``. Its default is a text like any other, so every value goes through the one parser.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from ipaddress import IPv6Network
from pathlib import Path
from typing import Any

from interlock.settings import values
from interlock.settings.setting import Environ, Setting
from interlock.settings.values import Binding
from store.connection import redact
from store.keys import DEFAULT_PREFIX
from support.endpoints import Endpoint
from zones.addresses import Platform
from zones.names import EnvironmentId, Name

DEFAULT = "default"  # the origin of a value that nobody set
LOG_LEVELS = ("debug", "info", "warning", "error")
LOG_FORMATS = ("console", "json")
WIREGUARD = ("auto", "kernel", "userspace")


def _state_directory(environ: Environ) -> str:
    # XDG Base Directory Specification: a relative $XDG_STATE_HOME is to be ignored.
    home = environ.get("XDG_STATE_HOME", "")
    return f"{home if home.startswith('/') else '~/.local/state'}/interlock"


def _host_id(_environ: Environ) -> str:
    # The short host name, where it can be an id; else the operator is asked for one.
    name = socket.gethostname().partition(".")[0].lower()
    try:
        return values.parse_optional_host(name) or ""
    except ValueError:
        return ""


def _hide(secret: str | None) -> str:
    return "…" if secret else ""


def _setting(*args: Any, **kwargs: Any) -> Mapping[str, Setting]:
    return {"setting": Setting(*args, **kwargs)}


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings with their values; ``origins`` says for each where its value comes from."""

    dns_listen: tuple[Endpoint, ...] = field(
        metadata=_setting(
            "ADDRESS:PORT",
            Endpoint.parse,
            ("127.0.0.1:1053", "[::1]:1053"),
            "Where DNS is served, over UDP and TCP.",
            part_defaults={"resolver": ("0.0.0.0:53", "[::]:53")},
            collect=values.collect_endpoints,
        )
    )
    api_listen: Endpoint = field(
        metadata=_setting("ADDRESS:PORT", Endpoint.parse, "127.0.0.1:8081", "Where the admin API is served.")
    )
    ops_listen: Endpoint | None = field(
        metadata=_setting(
            "ADDRESS:PORT",
            values.parse_optional_endpoint,
            "127.0.0.1:8082",
            "Where a resolver or an agent serves /livez, /readyz and /metrics; empty for nowhere.",
            part_defaults={"agent": "127.0.0.1:8083"},
        )
    )
    state_dir: Path = field(
        metadata=_setting(
            "DIRECTORY", values.parse_path, _state_directory, "Where the embedded store and the admin token lie."
        )
    )
    redis: str | None = field(
        repr=False,
        metadata=_setting(
            "URL",
            values.parse_redis,
            "",
            "The store: redis://, rediss://, unix:// or sentinel://; empty for the embedded one.",
            aliases=("INTERLOCK_REDIS_URL",),
            show=lambda url: redact(url or ""),
        ),
    )
    redis_prefix: str = field(
        metadata=_setting(
            "TEXT", values.parse_word, DEFAULT_PREFIX, "What all keys in the store begin with; one for each platform."
        )
    )
    store_server: str | None = field(
        metadata=_setting(
            "PATH",
            values.parse_optional_text,
            "",
            "A valkey-server or redis-server to run as the embedded store; empty for the one that came along.",
        )
    )
    bind: tuple[Binding, ...] = field(
        metadata=_setting(
            "PREFIX=ENVIRONMENT",
            values.parse_binding,
            (),
            "Clients with addresses in PREFIX belong to ENVIRONMENT.",
            collect=values.collect_bindings,
        )
    )
    upstream: tuple[str, ...] = field(
        metadata=_setting(
            "[DOMAIN=]ADDRESS[:PORT]",
            values.parse_upstream,
            (),
            "Who is asked for names that are not the platform's, or just those below DOMAIN; tls://ADDRESS#NAME for DNS"
            " over TLS; 'none' for nobody. The nameservers of /etc/resolv.conf if there is no other.",
            collect=values.collect_upstreams,
        )
    )
    demo: bool = field(
        metadata=_setting(
            "BOOL",
            values.parse_switch,
            "false",
            "Load the environment 'demo' and make it this machine's own.",
        )
    )
    host: str | None = field(
        metadata=_setting("ID", values.parse_optional_host, _host_id, "This host, as instances name it.")
    )
    endpoint: Endpoint | None = field(
        metadata=_setting(
            "ADDRESS:PORT",
            values.parse_optional_underlay,
            "",
            "Where other hosts reach this one's WireGuard, over UDP.",
        )
    )
    region: str | None = field(
        metadata=_setting("REGION", values.parse_optional_region, "", "The region of this host and of its instances.")
    )
    agent_dir: Path | None = field(
        metadata=_setting(
            "DIRECTORY",
            values.parse_optional_path,
            "/run/interlock",
            "Where the host's agent has its sockets. A resolver learns from the agent there what it may answer; empty:"
            " from the store.",
            part_defaults={"resolver": ""},
        )
    )
    agent_group: str | None = field(
        metadata=_setting(
            "GROUP",
            values.parse_optional_text,
            "",
            "The group whose members may learn from the agent which names there are: the resolver's; empty for none.",
        )
    )
    wireguard: str = field(
        metadata=_setting(
            "BACKEND",
            values.one_of(*WIREGUARD),
            "auto",
            "Whose WireGuard: the kernel's, or wireguard-go in userspace; auto takes the kernel's where it has one.",
            words=WIREGUARD,
        )
    )
    device: str = field(
        metadata=_setting("NAME", values.parse_device, "interlock0", "The name of the WireGuard device.")
    )
    platform_prefix: IPv6Network = field(
        metadata=_setting(
            "PREFIX",
            values.parse_prefix,
            str(Platform().prefix),
            "The /16 that all environments' networks are taken from.",
        )
    )
    zone: Name = field(
        metadata=_setting("NAME", values.parse_zone, str(Platform().apex), "The zone that holds the internal names.")
    )
    log_level: str = field(
        metadata=_setting(
            "LEVEL", values.one_of(*LOG_LEVELS), "info", "The least important events to log.", words=LOG_LEVELS
        )
    )
    log_format: str = field(
        metadata=_setting(
            "FORMAT",
            values.one_of(*LOG_FORMATS),
            "json",
            "How log lines are written, on standard error.",
            part_defaults={"up": "console"},
            words=LOG_FORMATS,
        )
    )
    api: str = field(
        metadata=_setting(
            "URL", values.parse_url, "http://127.0.0.1:8081", "The admin API that client commands speak to."
        )
    )
    token: str | None = field(
        repr=False,
        metadata=_setting(
            "TOKEN",
            values.parse_secret,
            "",
            "The token for the admin API; empty for the one in the state directory.",
            show=_hide,
        ),
    )
    environment: EnvironmentId | None = field(
        metadata=_setting(
            "ENVIRONMENT",
            values.parse_optional_environment,
            "",
            "The environment that client commands are about.",
            short="-e",
        )
    )
    origins: Mapping[str, str] = field(default_factory=dict)

    @property
    def platform(self) -> Platform:
        return Platform(self.platform_prefix, self.zone)

    def is_default(self, name: str) -> bool:
        """Whether nobody set ``name``."""
        return self.origins[name] == DEFAULT


TABLE: Mapping[str, Setting] = {
    row.name: replace(row.metadata["setting"], name=row.name) for row in fields(Settings) if "setting" in row.metadata
}
