"""The messages between a host's agent and its resolvers. Each is one line over a unix socket; no I/O happens here.

    agent ──► resolver    pending <id> <revision> <document>   the environment is known, its routes are being made
                          change <id> <revision> <difference>  the same, by what differs from the last pending revision
                          ready <id> <revision>                the routes of the pending revision are there: serve it
                          serve <id> <revision> <document>     serve this one; the pending revision stays pending
                          withdrawn <id>                       the environment no longer exists here
                          loaded                               an environment that was not named so far does not exist
                          clock <milliseconds>                 this host's clock is ahead of the store's by so many
                          away <hosts> <hosts>                 the hosts that are down, and those out of reach from here
                          confirmed                            also those that were named before and are not named now

    resolver ──► agent    served <id> <revision>               the revision is served
                          refused <id> <revision>              its document is bad; the one before it is still served

A resolver replies to each `Ready` and `Serve`, in their order, and to nothing else.

It says what it understands by the name of its end of the socket, which agents of all releases pass over: one whose end
has a `own_address` is sent `Change` for an environment that was named whole on the connection, and every other one is
sent it whole each time. So agents and resolvers may be upgraded in any order.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import dataclass

from watcher.feed.errors import FeedBroken
from zones.names import EnvironmentId
from zones.placement import HostsAway

SOCKET = "names.sock"  # in the agent's directory

MAX_DIGITS = 19  # of a revision, which fits 64 bits; Python refuses to read a number of thousands of digits
_DIFFERENCES = b"\0interlock-resolver/differences/"  # abstract (unix(7)): it is no file, and ends with its socket
EXCERPT = 40  # octets of a bad line that an error quotes; a document has thousands


@dataclass(frozen=True, slots=True)
class Pending:
    """The environment is known, and its routes are being made. The resolver holds queries for its new names."""

    id: EnvironmentId
    """The environment."""
    revision: int
    """The revision of ``document``."""
    document: bytes
    """The environment, as `zones.document` encodes it."""


@dataclass(frozen=True, slots=True)
class Change:
    """The same as `Pending`, for an environment that this connection has named before."""

    id: EnvironmentId
    """The environment."""
    revision: int
    """The revision that is pending."""
    difference: bytes
    """What it has otherwise than the last one that was named as pending, as `zones.parts` encodes it."""


@dataclass(frozen=True, slots=True)
class Ready:
    """The routes of the revision of the last `Pending` or `Change` are there: the resolver serves it."""

    id: EnvironmentId
    """The environment."""
    revision: int
    """The revision that the last `Pending` named."""


@dataclass(frozen=True, slots=True)
class Serve:
    """The routes of this revision are there: the resolver serves it, and goes on waiting for the pending one."""

    id: EnvironmentId
    """The environment."""
    revision: int
    """The revision of ``document``."""
    document: bytes
    """The environment, as `zones.document` encodes it."""


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """The environment was deleted, or has no member on this host any more."""

    id: EnvironmentId
    """The environment."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """The agent has named all environments: the resolver withdraws those that this connection did not name."""


@dataclass(frozen=True, slots=True)
class Clock:
    """The clock of the host is not the store's, by which former names end. Sent only where the two differ."""

    ahead: int
    """By how many milliseconds; negative where it is behind."""


@dataclass(frozen=True, slots=True)
class Away:
    """The hosts to which there is no path, in place of those that were named before. Sent once there is one."""

    hosts: HostsAway
    """The hosts."""


@dataclass(frozen=True, slots=True)
class Confirmed:
    """Somebody has confirmed that what has vanished is deleted: the resolver withdraws what it holds on to."""


@dataclass(frozen=True, slots=True)
class Served:
    """The resolver serves the revision."""

    id: EnvironmentId
    """The environment."""
    revision: int
    """The revision that the `Ready` or `Serve` named."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The resolver cannot serve the revision, because its document is bad. It serves the one before it."""

    id: EnvironmentId
    """The environment."""
    revision: int
    """The revision that the `Ready` or `Serve` named."""


Update = Pending | Change | Ready | Serve | Withdrawn | Loaded | Clock | Away | Confirmed
"""A message of the agent."""
Reply = Served | Refused
"""A message of a resolver."""


def encode(message: Update | Reply) -> bytes:  # noqa: C901 a case for each message
    """The line of ``message``, with its end."""
    match message:
        case Pending(id_, revision, document):
            return b"pending %s %d %s\n" % (id_.encode(), revision, document)
        case Change(id_, revision, difference):
            return b"change %s %d %s\n" % (id_.encode(), revision, difference)
        case Ready(id_, revision):
            return b"ready %s %d\n" % (id_.encode(), revision)
        case Serve(id_, revision, document):
            return b"serve %s %d %s\n" % (id_.encode(), revision, document)
        case Withdrawn(id_):
            return b"withdrawn %s\n" % id_.encode()
        case Loaded():
            return b"loaded\n"
        case Clock(ahead):
            return b"clock %d\n" % ahead
        case Away(hosts):
            return b"away %s %s\n" % (_join(hosts.down), _join(hosts.unreachable))
        case Confirmed():
            return b"confirmed\n"
        case Served(id_, revision):
            return b"served %s %d\n" % (id_.encode(), revision)
        case Refused(id_, revision):
            return b"refused %s %d\n" % (id_.encode(), revision)


def decode_update(line: bytes) -> Update:
    """The message of the agent in ``line``, which may have its end or not. Raises `FeedBroken`."""
    match line.removesuffix(b"\n").split(b" ", 3):
        case [b"pending", id_, revision, document] if _is_revision(revision):
            return Pending(_environment(id_), int(revision), document)
        case [b"change", id_, revision, difference] if _is_revision(revision):
            return Change(_environment(id_), int(revision), difference)
        case [b"ready", id_, revision] if _is_revision(revision):
            return Ready(_environment(id_), int(revision))
        case [b"serve", id_, revision, document] if _is_revision(revision):
            return Serve(_environment(id_), int(revision), document)
        case [b"withdrawn", id_]:
            return Withdrawn(_environment(id_))
        case [b"loaded"]:
            return Loaded()
        case [b"clock", ahead] if _is_revision(ahead.removeprefix(b"-")):
            return Clock(int(ahead))
        case [b"away", down, unreachable]:
            return Away(HostsAway(_split(down), _split(unreachable)))
        case [b"confirmed"]:
            return Confirmed()
        case _:
            raise FeedBroken(
                f"the agent sent a message that is not known here, {line[:EXCERPT]!r}: are the agent and this resolver"
                " of one release?"
            )


def decode_reply(line: bytes) -> Reply:
    """The message of a resolver in ``line``, which may have its end or not. Raises `FeedBroken`."""
    match line.split():
        case [b"served", id_, revision] if _is_revision(revision):
            return Served(_environment(id_), int(revision))
        case [b"refused", id_, revision] if _is_revision(revision):
            return Refused(_environment(id_), int(revision))
        case _:
            raise FeedBroken(f"the resolver sent {line[:EXCERPT]!r}, which is no reply")


def own_address() -> bytes:
    """An address for a resolver's end of the socket, by which it says that it understands `Change`."""
    return _DIFFERENCES + secrets.token_hex(8).encode()


def understands_differences(address: object) -> bool:
    """Whether the resolver at ``address``, as the agent's end has it, understands `Change`."""
    return isinstance(address, bytes) and address.startswith(_DIFFERENCES)


def _is_revision(text: bytes) -> bool:
    return text.isdigit() and len(text) <= MAX_DIGITS


def _join(hosts: Iterable[str]) -> bytes:
    return b",".join(host.encode() for host in sorted(hosts)) or b"-"


def _split(hosts: bytes) -> frozenset[str]:
    return frozenset(hosts.decode("latin-1").split(",")) - {"-", ""}  # no id of a host is "-"


def _environment(id_: bytes) -> EnvironmentId:
    return EnvironmentId(id_.decode("latin-1"))  # an id that is none of ours names no environment
