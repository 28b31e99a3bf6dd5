"""URLs of stores: which are taken, what stands in them, and how they are shown without their passwords.

    redis://[USER:PASSWORD@]HOST[:PORT][/DB]      rediss://… by TLS
    unix://[USER:PASSWORD@]/PATH[?db=DB]
    sentinel://[USER:PASSWORD@]HOST[:PORT],…/PRIMARY[?db=DB&sentinel_username=USER&sentinel_password=PASSWORD]
    sentinels://…                                 the same, with TLS to the Sentinels and to the server

The user and password before the ``@`` are those of the server; the Sentinels have their own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

SCHEMES = ("redis", "rediss", "unix", "sentinel", "sentinels")
DEFAULT_SENTINEL_PORT = 26379
SENTINEL_OPTIONS = ("db", "sentinel_username", "sentinel_password")

Address = tuple[str, int]
"""The host and the port of a server."""


@dataclass(frozen=True, slots=True)
class SentinelUrl:
    """What a URL says of a server that Sentinels name."""

    sentinels: tuple[Address, ...]
    """Where the Sentinels are."""
    primary: str
    """The name under which the Sentinels know the primary and its replicas."""
    tls: bool
    """Whether Sentinels and servers are reached by TLS."""
    db: int
    """The number of the database."""
    username: str | None
    """The user at the server; None for the default user."""
    password: str | None
    """The password at the server; None for none."""
    sentinel_username: str | None
    """The user at the Sentinels; None for the default user."""
    sentinel_password: str | None
    """The password at the Sentinels; None for none."""


def is_sentinel(url: str) -> bool:
    """Whether ``url`` names Sentinels."""
    return url.startswith(("sentinel:", "sentinels:"))


def uses_tls(url: str) -> bool:
    """Whether the server at ``url`` is reached by TLS."""
    return url.startswith(("rediss:", "sentinels:"))


def check_url(url: str) -> None:
    """Raises ``ValueError`` if ``url`` does not say how to reach a server."""
    try:
        parts = urlsplit(url)
        ports = [_host_and_port(host)[1] for host in _hosts(parts) if parts.scheme != "unix"]
    except ValueError:
        # The library's message quotes the text that it could not read, which may be a piece of the password.
        raise ValueError(f"{redact(url)!r} cannot be read: is the port a number, and the password %-encoded?") from None
    if parts.scheme not in SCHEMES:
        raise ValueError(f"{redact(url)!r} is not a Redis URL: it starts with one of {', '.join(SCHEMES)} and '://'")
    if parts.scheme == "unix" and not parts.path:
        raise ValueError(f"{redact(url)!r} names no socket: write unix:///path/to/socket")
    if is_sentinel(url) and not (ports and parts.path.strip("/")):
        raise ValueError(f"{redact(url)!r} lacks hosts or a primary: write sentinel://HOST:PORT,HOST:PORT/PRIMARY")


def read_sentinel_url(url: str) -> SentinelUrl:
    """What ``url`` says, which begins with ``sentinel://`` or ``sentinels://``. Raises ``ValueError``."""
    check_url(url)
    parts = urlsplit(url)
    user, _, password = parts.netloc.rpartition("@")[0].partition(":")
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    if unknown := options.keys() - set(SENTINEL_OPTIONS):
        raise ValueError(f"{redact(url)!r} has an unknown option {min(unknown)!r}: use {', '.join(SENTINEL_OPTIONS)}")
    if not (db := options.get("db", "0")).isdecimal():
        raise ValueError(f"{redact(url)!r}: Invalid value for 'db': it is a number")
    return SentinelUrl(
        sentinels=tuple((host, port or DEFAULT_SENTINEL_PORT) for host, port in map(_host_and_port, _hosts(parts))),
        primary=parts.path.strip("/"),
        tls=uses_tls(url),
        db=int(db),
        username=unquote(user) or None,
        password=unquote(password) or None,
        sentinel_username=options.get("sentinel_username") or None,
        sentinel_password=options.get("sentinel_password") or None,
    )


def redact(url: str) -> str:
    """``url`` without its passwords, fit for a log."""
    url = re.sub(r"(password=)[^&]*", r"\1…", url)
    userinfo, at, rest = url.rpartition("@")
    if not at:
        return url
    scheme, separator, user = userinfo.partition("://")
    # In a URL without a scheme, all that stands before the "@" may be the password.
    return f"{scheme}://{user.partition(':')[0]}:…@{rest}" if separator else f"…@{rest}"


def _hosts(parts: SplitResult) -> list[str]:
    return [host for host in parts.netloc.rpartition("@")[2].split(",") if host]


def _host_and_port(text: str) -> tuple[str, int | None]:
    parts = urlsplit("//" + text)
    return parts.hostname or "", parts.port
