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

from admin.hosts.judge import GRACE
from interlock.settings import values
from interlock.settings.setting import Environ, Setting
from interlock.settings.values import Binding, QuotaLimit
from resolver.net.turns import DEFAULT_RATE
from store.keys import DEFAULT_PREFIX
from store.url import redact
from support.endpoints import AutoEndpoint, Endpoint
from watcher.guard import GuardPolicy
from zones.addresses import Platform
from zones.names import EnvironmentId, Name
from zones.quota import Quota, limits

UP, RESOLVER, ADMIN, AGENT = "up", "resolver", "admin", "agent"  # the programs: the commands that serve
PROGRAMS = (UP, RESOLVER, ADMIN, AGENT)
WITH_STORE = (UP, RESOLVER, ADMIN)  # those that may speak to the store; an agent has the control plane

DEFAULT = "default"  # the origin of a value that no flag, variable or file sets
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
    """All settings with their values. A new setting is one new entry here, and nothing elsewhere."""

    dns_listen: tuple[Endpoint, ...] = field(
        metadata=_setting(
            "ADDRESS:PORT",
            Endpoint.parse,
            ("127.0.0.1:1053", "[::1]:1053"),
            "An address on which DNS is served, over UDP and TCP. Repeatable.",
            programs=(UP, RESOLVER),
            program_defaults={RESOLVER: ("0.0.0.0:53", "[::]:53")},
            collect=values.collect_endpoints,
        )
    )
    api_listen: Endpoint = field(
        metadata=_setting(
            "ADDRESS:PORT",
            Endpoint.parse,
            "127.0.0.1:8081",
            "The address on which the admin API is served.",
            programs=(UP, ADMIN),
        )
    )
    hosts_listen: tuple[Endpoint, ...] = field(
        metadata=_setting(
            "ADDRESS:PORT",
            Endpoint.parse,
            (),
            "An address on which the agents of hosts are served, by TLS. Repeatable; by default none is.",
            programs=(UP, ADMIN),
            collect=values.collect_optional_endpoints,
        )
    )
    host_grace: float = field(
        metadata=_setting(
            "SECONDS",
            values.parse_seconds,
            f"{GRACE:g}",
            "How long after the end of its lease, which is 5 s after its agent was heard last, a host still counts as"
            " there; then its instances are not answered. Give all control planes the same.",
            programs=(UP, ADMIN),
        )
    )
    ops_listen: Endpoint | None = field(
        metadata=_setting(
            "ADDRESS:PORT",
            values.parse_optional_endpoint,
            "127.0.0.1:8082",
            "The address on which a resolver or an agent serves /livez, /readyz and /metrics; empty for none.",
            programs=(RESOLVER, AGENT),
            program_defaults={AGENT: "127.0.0.1:8083"},
        )
    )
    state_dir: Path = field(
        metadata=_setting(
            "DIRECTORY",
            values.parse_path,
            _state_directory,
            "The directory of the embedded store, the admin token and the query log's socket.",
            programs=PROGRAMS,
        )
    )
    redis: str | None = field(
        repr=False,
        metadata=_setting(
            "URL",
            values.parse_redis,
            "",
            "The store: redis://, rediss://, unix:// or sentinel://; empty for the embedded one.",
            programs=WITH_STORE,
            aliases=("INTERLOCK_REDIS_URL",),
            show=lambda url: redact(url or ""),
        ),
    )
    redis_ca: Path | None = field(
        metadata=_setting(
            "FILE",
            values.parse_optional_path,
            "",
            "The certificates (PEM) of the authorities that sign the store's and the Sentinels' certificates, for rediss://"
            " and sentinels://; empty for those that the system trusts.",
            programs=WITH_STORE,
        )
    )
    redis_replicas: bool = field(
        metadata=_setting(
            "BOOL",
            values.parse_switch,
            "false",
            "Read from replicas: a replica at the URL will do, and one that the Sentinels name is preferred to the"
            " primary.",
            programs=(RESOLVER,),
        )
    )
    redis_wait: int = field(
        metadata=_setting(
            "N|all",
            values.parse_wait,
            "0",
            "How many replicas must confirm a write before it counts as made; 'all' for those that the Sentinels hold"
            " to be up, so that no failover loses it. Each write takes a round trip to them longer, and fails if they"
            " are away.",
            programs=(UP, ADMIN),
            show=values.show_wait,
        )
    )
    redis_whole: bool = field(
        metadata=_setting(
            "BOOL",
            values.parse_switch,
            "false",
            "Write each environment whole with each commit, and not what the commit changes in a large one: for as long"
            " as resolvers or control planes of an older release follow the same store.",
            programs=(UP, ADMIN),
        )
    )
    redis_prefix: str = field(
        metadata=_setting(
            "TEXT",
            values.parse_word,
            DEFAULT_PREFIX,
            "What every key in the store begins with; platforms that share a store need different ones.",
            programs=WITH_STORE,
        )
    )
    snapshot_limit: int = field(
        metadata=_setting(
            "MIB",
            values.parse_mebibytes,
            "1024",
            "How large the snapshot in the state directory may be. From it names are answered when the process starts"
            " and its store, its agent or its control plane does not answer. 0 keeps none.",
            programs=PROGRAMS,
        )
    )
    store_server: str | None = field(
        metadata=_setting(
            "PATH",
            values.parse_optional_text,
            "",
            "A valkey-server or redis-server to run as the embedded store; empty for the one that is installed with"
            " Interlock.",
            programs=(UP,),
        )
    )
    bind: tuple[Binding, ...] = field(
        metadata=_setting(
            "PREFIX=ENVIRONMENT",
            values.parse_binding,
            (),
            "Clients with addresses in PREFIX belong to ENVIRONMENT. Repeatable.",
            programs=(UP, RESOLVER),
            collect=values.collect_bindings,
        )
    )
    upstream: tuple[str, ...] = field(
        metadata=_setting(
            "[DOMAIN=]ADDRESS[:PORT]",
            values.parse_upstream,
            (),
            "An upstream resolver for names that are not the platform's, or only for those below DOMAIN;"
            " tls://ADDRESS#NAME for DNS over TLS; 'none' to forward nothing. Repeatable. Special names (local,"
            " home.arpa, 10.in-addr.arpa) are forwarded only by a DOMAIN of their own. By default the nameservers of"
            " /etc/resolv.conf, which is followed.",
            programs=(UP, RESOLVER),
            collect=values.collect_upstreams,
        )
    )
    dns_source_rate: int = field(
        metadata=_setting(
            "N",
            values.parse_count,
            f"{DEFAULT_RATE:g}",
            "How many DNS replies are made for one address in a second, by each worker, beside those that are ready in"
            " its packet cache; queries beyond that are dropped and counted. 0 for any number.",
            programs=(UP, RESOLVER),
        )
    )
    workers: int = field(
        metadata=_setting(
            "N|auto",
            values.parse_workers,
            "1",
            "How many processes answer DNS, each on a core of its own beside the one that follows the store or the"
            " agent; 'auto' for one on each core that this process may use. With 1, one process does all.",
            programs=(UP, RESOLVER),
            show=values.show_workers,
        )
    )
    demo: bool = field(
        metadata=_setting(
            "BOOL",
            values.parse_switch,
            "false",
            "Make the environment 'demo', and answer this machine's own queries from it.",
            programs=(UP,),
        )
    )
    mesh: bool = field(
        metadata=_setting(
            "BOOL",
            values.parse_switch,
            "false",
            "Make this machine a host of the mesh too, so that workloads can be attached. Needs root.",
            programs=(UP,),
        )
    )
    host: str | None = field(
        metadata=_setting(
            "ID",
            values.parse_optional_host,
            _host_id,
            "The id of this host, which instances name.",
            programs=(UP, AGENT),
        )
    )
    endpoint: Endpoint | AutoEndpoint | None = field(
        metadata=_setting(
            "ADDRESS:PORT",
            values.parse_optional_underlay,
            "",
            "The UDP address at which other hosts reach this host's WireGuard; auto, or auto:PORT, for the address by"
            " which this host reaches the others, also when it changes.",
            programs=(UP, AGENT),
        )
    )
    behind_nat: bool = field(
        metadata=_setting(
            "BOOL",
            values.parse_switch,
            "false",
            "This host is behind NAT, and hosts elsewhere cannot begin to send to it: it begins with all of them, and"
            " keeps the mapping of the NAT alive.",
            programs=(AGENT,),
        )
    )
    region: str | None = field(
        metadata=_setting(
            "REGION",
            values.parse_optional_region,
            "",
            "The region of this host and of its instances.",
            programs=(UP, AGENT),
        )
    )
    agent_dir: Path | None = field(
        metadata=_setting(
            "DIRECTORY",
            values.parse_optional_path,
            "/run/interlock",
            "The directory of the sockets of this host's agent. A resolver that is given it learns from the agent which"
            " names it may answer; with an empty one it learns from the store.",
            programs=(UP, RESOLVER, AGENT),
            program_defaults={RESOLVER: ""},
        )
    )
    agent_group: str | None = field(
        metadata=_setting(
            "GROUP",
            values.parse_optional_text,
            "",
            "The group whose members may read the agent's feed of names, which is the resolver's group; empty for root"
            " alone.",
            programs=(AGENT,),
        )
    )
    wireguard: str = field(
        metadata=_setting(
            "BACKEND",
            values.one_of(*WIREGUARD),
            "auto",
            "The WireGuard to use: the kernel's, or wireguard-go in userspace; auto prefers the kernel's.",
            programs=(UP, AGENT),
            choices=WIREGUARD,
        )
    )
    device: str = field(
        metadata=_setting(
            "NAME", values.parse_device, "interlock0", "The name of the WireGuard device.", programs=(AGENT,)
        )
    )
    guard_share: float = field(
        metadata=_setting(
            "SHARE",
            values.parse_share,
            str(GuardPolicy().share),
            "The share of all environments, and of all hosts, that may be deleted in one step; more is held until it is"
            " confirmed. 1 holds nothing at all.",
            programs=PROGRAMS,
        )
    )
    guard_name_share: float = field(
        metadata=_setting(
            "SHARE",
            values.parse_share,
            str(GuardPolicy().name_share),
            "The share of one environment's names that may be deleted in one step; more is held until it is confirmed.",
            programs=PROGRAMS,
        )
    )
    guard_release_after: float = field(
        metadata=_setting(
            "SECONDS",
            values.parse_seconds,
            f"{GuardPolicy().release_after:g}",
            "How long a deletion is held at most; 0 for as long as nobody confirms it and the data is not back.",
            programs=PROGRAMS,
        )
    )
    quota: tuple[QuotaLimit, ...] = field(
        metadata=_setting(
            "KIND=N",
            values.parse_quota,
            (),
            "How much one environment may hold, unless something else was set for it: "
            + ", ".join(f"{kind}={limit}" for kind, limit in limits(Quota()).items())
            + ". Repeatable.",
            programs=(UP, ADMIN),
            collect=values.collect_quotas,
        )
    )
    undelete_within: float = field(
        metadata=_setting(
            "SECONDS",
            values.parse_seconds,
            "86400",
            "For how long a deleted environment is kept, so that 'interlock env undelete' can bring it back; 0 keeps"
            " none.",
            programs=(UP, ADMIN),
        )
    )
    platform_prefix: IPv6Network = field(
        metadata=_setting(
            "PREFIX",
            values.parse_prefix,
            str(Platform().prefix),
            "The /16 from which every environment takes its network.",
            programs=PROGRAMS,
        )
    )
    zone: Name = field(
        metadata=_setting(
            "NAME",
            values.parse_zone,
            str(Platform().apex),
            "The zone that holds the internal names.",
            programs=PROGRAMS,
        )
    )
    log_level: str = field(
        metadata=_setting(
            "LEVEL",
            values.one_of(*LOG_LEVELS),
            "info",
            "The least important events to log.",
            programs=PROGRAMS,
            choices=LOG_LEVELS,
        )
    )
    log_format: str = field(
        metadata=_setting(
            "FORMAT",
            values.one_of(*LOG_FORMATS),
            "json",
            "The form of log lines, which go to standard error.",
            programs=PROGRAMS,
            program_defaults={UP: "console"},
            choices=LOG_FORMATS,
        )
    )
    api: tuple[str, ...] = field(
        metadata=_setting(
            "URL",
            values.parse_url,
            "http://127.0.0.1:8081",
            "For an agent the control planes, as in https://10.0.0.1:8443, where they listen for hosts; repeatable. For"
            " a client command the admin API that it calls.",
            programs=(AGENT,),
            program_defaults={AGENT: ()},
            collect=values.collect_urls,
        )
    )
    enrol: str | None = field(
        repr=False,
        metadata=_setting(
            "TOKEN|@FILE",
            values.parse_optional_text,
            "",
            "The token that 'interlock host enrol' printed for this host, or the file that has it. It is used once,"
            " when the host has no credential yet, or its credential was ended.",
            programs=(AGENT,),
            show=_hide,
        ),
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
    """Where each value comes from, by the name of its setting: ``flag --zone``, ``variable INTERLOCK_ZONE``, …"""

    @property
    def platform(self) -> Platform:
        """The platform that the zone and the prefix make."""
        return Platform(self.platform_prefix, self.zone)

    @property
    def guard(self) -> GuardPolicy:
        """How much may be deleted in one step."""
        return GuardPolicy(self.guard_share, self.guard_name_share, self.guard_release_after)

    @property
    def default_quota(self) -> Quota:
        """How much environments may hold for which nothing else was set."""
        return Quota(**{one.kind: one.limit for one in self.quota})

    def is_default(self, name: str) -> bool:
        """Whether the setting ``name`` has its default, because no flag, variable or file sets it."""
        return self.origins[name] == DEFAULT


TABLE: Mapping[str, Setting] = {
    row.name: replace(row.metadata["setting"], name=row.name) for row in fields(Settings) if "setting" in row.metadata
}


def settings_of(program: str) -> tuple[str, ...]:
    """The names of the settings that ``program`` has as flags."""
    return tuple(name for name, setting in TABLE.items() if program in setting.programs)
