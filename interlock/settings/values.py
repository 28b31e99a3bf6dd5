"""The values of settings as text: a parser for each, and for structured values a type whose ``str`` is that text.

A parser takes the text of one value and raises ``ValueError`` with a message that says what would be right.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from resolver.forward.upstream import BadUpstream, Routes
from store.client import check_readable
from store.options import ALL
from support.endpoints import AutoEndpoint, Endpoint
from zones.addresses import Platform, parse_network
from zones.names import EnvironmentId, Name, check_environment_id, check_host_id, check_region
from zones.quota import KINDS as QUOTA_KINDS
from zones.records import RRType

Network = IPv4Network | IPv6Network

NO_UPSTREAM = "none"

MAX_DIGITS = 9  # of a number of MiB; more than any disk has, and no number that takes long to read
_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off", ""})


def reachable(host: str, port: int) -> Endpoint:
    """Where clients on this machine reach a server that listens on ``host`` and ``port``."""
    return Endpoint({"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port)  # noqa: S104 compared, not listened on


class Binding(NamedTuple):
    """Clients with addresses in ``network`` belong to ``environment``."""

    network: Network
    environment: EnvironmentId

    def __str__(self) -> str:
        return f"{self.network}={self.environment}"


def parse_optional_endpoint(text: str) -> Endpoint | None:
    """An endpoint; empty for none."""
    return Endpoint.parse(text) if text else None


WIREGUARD_PORT = 51820  # that most WireGuard hosts listen on, and that every example has


def parse_optional_underlay(text: str) -> Endpoint | AutoEndpoint | None:
    """An endpoint that others can reach: an address of this host and a port, or ``auto``; empty for none."""
    if text == "auto":
        return AutoEndpoint(WIREGUARD_PORT)
    if text.startswith("auto:"):
        return AutoEndpoint(Endpoint.parse(text.replace("auto", "[::1]", 1)).port or WIREGUARD_PORT)
    endpoint = parse_optional_endpoint(text)
    if endpoint and (ip_address(endpoint.host).is_unspecified or endpoint.port == 0):
        raise ValueError(f"{text!r} is not where others reach this host: name one of its addresses, and a port")
    return endpoint


def parse_binding(text: str) -> Binding:
    """``10.1.0.0/16=production``; a prefix without a length is one address."""
    prefix, equals, environment = text.partition("=")
    if not equals:
        raise ValueError(f"{text!r} is not PREFIX=ENVIRONMENT: write it as in ::1/128=demo")
    try:
        network = ip_network(prefix)
    except ValueError as error:
        raise ValueError(f"{prefix!r} is not a network: {error}") from None
    return Binding(network, check_environment_id(environment))


class QuotaLimit(NamedTuple):
    """How much of one kind an environment may hold."""

    kind: str
    limit: int

    def __str__(self) -> str:
        return f"{self.kind}={self.limit}"


def parse_quota(text: str) -> QuotaLimit:
    """``instances=50000``."""
    kind, equals, limit = text.partition("=")
    if not equals or kind not in QUOTA_KINDS:
        raise ValueError(f"{text!r} is not KIND=N: write one of {', '.join(QUOTA_KINDS)}, as in instances=50000")
    return QuotaLimit(kind, parse_count(limit))


def collect_quotas(limits: Iterable[QuotaLimit]) -> tuple[QuotaLimit, ...]:
    """Limits of different kinds."""
    found = tuple(limits)
    if len({one.kind for one in found}) < len(found):
        raise ValueError("two limits are of one kind: give each kind once")
    return found


def collect_endpoints(endpoints: Iterable[Endpoint]) -> tuple[Endpoint, ...]:
    """At least one endpoint, and none twice."""
    found = tuple(dict.fromkeys(endpoints))
    if not found:
        raise ValueError("at least one ADDRESS:PORT is needed")
    return found


def collect_optional_endpoints(endpoints: Iterable[Endpoint]) -> tuple[Endpoint, ...]:
    """Any number of endpoints, and none twice."""
    return tuple(dict.fromkeys(endpoints))


def collect_bindings(bindings: Iterable[Binding]) -> tuple[Binding, ...]:
    """Bindings in which no network belongs to two environments."""
    owners: dict[Network, EnvironmentId] = {}
    for network, environment in bindings:
        if owners.setdefault(network, environment) != environment:
            raise ValueError(f"{network} is bound to both {owners[network]!r} and {environment!r}: choose one")
    return tuple(Binding(network, environment) for network, environment in owners.items())


def parse_upstream(text: str) -> str:
    """An upstream as `Routes.parse` reads it, or `NO_UPSTREAM`."""
    if text != NO_UPSTREAM:
        try:
            Routes.parse((text,))
        except BadUpstream as error:
            raise ValueError(str(error)) from None
    return text


def collect_upstreams(texts: Iterable[str]) -> tuple[str, ...]:
    """Upstreams, or `NO_UPSTREAM` alone."""
    found = tuple(dict.fromkeys(texts))
    if NO_UPSTREAM in found and len(found) > 1:
        raise ValueError(f"{NO_UPSTREAM!r} and an upstream are both given: choose one")
    return found


def collect_urls(urls: Iterable[str]) -> tuple[str, ...]:
    """URLs, each once."""
    return tuple(dict.fromkeys(urls))


def parse_redis(text: str) -> str | None:
    """The URL of a store; empty for none."""
    if not text:
        return None
    check_readable(text)
    return text


def parse_url(text: str) -> str:
    """The URL of an admin API, without a final slash."""
    try:
        parts = urlsplit(text)
        is_good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        is_good = False
    if not is_good:
        raise ValueError(f"{text!r} is not the URL of an API: write it as in http://127.0.0.1:8081")
    return text.rstrip("/")


def parse_optional_text(text: str) -> str | None:
    """Any text; empty for none."""
    return text or None


def parse_word(text: str) -> str:
    """A text without white space that is not empty."""
    if not text or re.search(r"\s", text):
        raise ValueError(f"{text!r} is empty or has white space in it")
    return text


def parse_secret(text: str) -> str | None:
    """Printable ASCII without white space; empty for none. The message never repeats it."""
    if re.search(r"[^!-~]", text):
        raise ValueError("the value has white space or a character in it that no token has")
    return text or None


def parse_path(text: str) -> Path:
    """A path, made absolute; ``~`` is the home directory."""
    if not text or "\0" in text:
        raise ValueError(f"{text!r} is not a path")
    try:
        return Path(text).expanduser().absolute()
    except RuntimeError:
        raise ValueError(f"{text!r}: there is no such home directory") from None


def parse_optional_path(text: str) -> Path | None:
    """A path, made absolute; empty for none."""
    return parse_path(text) if text else None


def parse_optional_host(text: str) -> str | None:
    """The id of a host; empty for none."""
    if text:
        check_host_id(text)
    return text or None


def parse_optional_region(text: str) -> str | None:
    """A region; empty for none."""
    if text:
        check_region(text)
    return text or None


def parse_mebibytes(text: str) -> int:
    """A whole number of MiB, 0 or more."""
    if not (text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS):
        raise ValueError(f"{text!r} is not a whole number of MiB")
    return int(text)


def parse_count(text: str) -> int:
    """A whole number, 0 or more."""
    if not (text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS):
        raise ValueError(f"{text!r} is not a whole number: write it in digits, up to {MAX_DIGITS} of them")
    return int(text)


def parse_device(text: str) -> str:
    """The name of a network device, as the kernel takes it (IFNAMSIZ: 15 octets)."""
    if not re.fullmatch(r"[a-z][a-z0-9_-]{0,14}", text):
        raise ValueError(f"{text!r} cannot name a device: use a letter, then up to 14 of a-z, 0-9, '-' and '_'")
    return text


def parse_optional_environment(text: str) -> EnvironmentId | None:
    """The id of an environment; empty for none."""
    return check_environment_id(text) if text else None


def parse_prefix(text: str) -> IPv6Network:
    """A /16 of IPv6."""
    return Platform(prefix=parse_network(text, 16)).prefix


def parse_zone(text: str) -> Name:
    """The apex of the internal zone."""
    return Platform(apex=Name.parse(text)).apex


def parse_qname(text: str, apex: Name) -> Name:
    """The name that ``text`` writes; one of a single label is below ``apex``, as a client's search list has it."""
    is_short = "." not in text and text != ""
    return apex.child(text) if is_short else Name.parse(text)


def parse_type(text: str) -> int:
    """The number of a record type: its name, or ``TYPE`` and the number (RFC 3597 §5)."""
    if text.upper() in RRType.__members__:
        return RRType[text.upper()]
    match = re.fullmatch(r"TYPE([0-9]{1,5})", text.upper())
    if match and int(match[1]) <= 0xFFFF:
        return int(match[1])
    raise ValueError(f"{text!r} is not a record type: use {', '.join(RRType.__members__)}, or TYPE and a number")


def parse_share(text: str) -> float:
    """A number from 0 to 1."""
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise ValueError(f"{text!r} is not a share: write a number from 0 to 1, as 0.3")
    return share


def parse_seconds(text: str) -> float:
    """A number of seconds, 0 or more."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise ValueError(f"{text!r} is not a number of seconds: write 0 or more, as 3600")
    return seconds


def parse_switch(text: str) -> bool:
    """``true`` or ``false``."""
    if text.lower() in _TRUE:
        return True
    if text.lower() in _FALSE:
        return False
    raise ValueError(f"{text!r} is neither true nor false")


def parse_wait(text: str) -> int:
    """A number of replicas, or ``all``."""
    if text == "all":
        return ALL
    if not re.fullmatch(r"[0-9]{1,4}", text):
        raise ValueError(f"{text!r} is not a number from 0 to 9999, nor 'all'")
    return int(text)


def show_wait(number: int) -> str:
    """The text of a number of replicas."""
    return "all" if number == ALL else str(number)


AUTO_WORKERS = 0
MOST_WORKERS = 256  # more than any machine has use for, and no number that was meant for another setting


def parse_workers(text: str) -> int:
    """A number of processes, or ``auto``."""
    if text == "auto":
        return AUTO_WORKERS
    if not re.fullmatch(r"[0-9]{1,4}", text) or not 1 <= int(text) <= MOST_WORKERS:
        raise ValueError(f"{text!r} is not a number from 1 to {MOST_WORKERS}, nor 'auto'")
    return int(text)


NUMBERS: frozenset[Callable[[str], float]] = frozenset(
    {parse_mebibytes, parse_count, parse_share, parse_seconds, parse_wait, parse_workers}
)
"""The parsers of numbers."""


def show_workers(number: int) -> str:
    """The text of a number of processes."""
    return "auto" if number == AUTO_WORKERS else str(number)


def one_of(*choices: str) -> Callable[[str], str]:
    """A parser that takes one of ``choices``."""

    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError(f"{text!r} is not one of {', '.join(choices)}")
        return text

    return parse
