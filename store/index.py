"""The index: one line for each environment, with its revision, its digest and the hosts that it concerns.

    <revision> <digest> <hosts>     an environment; the hosts as "h1,h2", or "-" for none
    <revision> <digest>             an environment that a release without hosts wrote
    <revision> deleted              an environment that was deleted

The Lua scripts read and write the same lines.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from msgspec import Struct

from zones.model import MAX_REVISION

DELETED = "deleted"  # the digest of a deleted environment
NO_HOSTS = "-"  # a list of no hosts: an empty list would look like a missing one


class IndexEntry(Struct, frozen=True, gc=False):
    """What the index says of one environment."""

    revision: int
    """The newest revision. A deleted environment keeps it, so that one created again under its id counts on from it."""
    digest: str | None
    """The digest of the document; None for a deleted environment."""
    hosts: frozenset[str] | None = frozenset()
    """The hosts that have a member of the environment; None where a release without hosts wrote the entry."""


def decode_entry(value: bytes) -> IndexEntry:
    """The index entry of the line ``value``.

    A line of another form becomes an entry that equals none that is served, so the watcher reads the document.
    """
    text = value.decode("latin-1")
    revision, _, rest = text.partition(" ")
    digest, has_hosts, hosts = rest.partition(" ")
    number = read_number(revision)
    if number is None or not digest:
        return IndexEntry(0, text, None)
    if digest == DELETED:
        return IndexEntry(number, None)
    return IndexEntry(number, digest, split_hosts(hosts) if has_hosts else None)


def encode_entry(entry: IndexEntry) -> bytes:
    """The line of ``entry``, of an environment that exists, as the script that commits it writes it."""
    return f"{entry.revision} {entry.digest} {join_hosts(entry.hosts or ())}".encode()


def read_number(text: bytes | str) -> int | None:
    """The revision in ``text``; None where there is none that one of our writers could have made."""
    number = int(text) if re.fullmatch(rb"[0-9]{1,16}", text.encode() if isinstance(text, str) else text) else None
    return None if number is None or number > MAX_REVISION else number


def join_hosts(hosts: Iterable[str]) -> str:
    """The list of ``hosts`` as the index and the changes hold it."""
    return ",".join(sorted(hosts)) or NO_HOSTS


def split_hosts(text: str) -> frozenset[str]:
    """The hosts in ``text``, which `join_hosts` or a script has made."""
    return frozenset(text.split(",")) - {NO_HOSTS, ""}
