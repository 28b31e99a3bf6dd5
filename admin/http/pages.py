"""Long lists, a page at a time: so many at most, and where the next page starts."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Annotated, TypeVar

from msgspec import Meta, Struct

from admin.resources.views import (
    EnvironmentSummary,
    HostsRevision,
    HostView,
    InstanceView,
    PeerView,
    RecordView,
    Revision,
    ServiceView,
)

Entry = TypeVar("Entry")

PAGE = 100
LARGEST_PAGE = 1000  # entries, each of some kilobytes: what one answer may take


class PageQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """Which page: at most ``limit`` entries that come after the one named ``after``."""

    limit: Annotated[int, Meta(ge=1, le=LARGEST_PAGE, description="entries at most")] = PAGE
    after: Annotated[str, Meta(description="'next' of the page before")] = ""


class EnvironmentPage(Struct, frozen=True):
    """Environments by id. ``unreadable`` are those whose stored document breaks a rule; the others are unharmed."""

    environments: tuple[EnvironmentSummary, ...]
    unreadable: tuple[str, ...]
    next: str | None


class ServicePage(Struct, frozen=True):
    """Services by name."""

    services: tuple[ServiceView, ...]
    next: str | None
    revision: Revision


class InstancePage(Struct, frozen=True):
    """Instances by id."""

    instances: tuple[InstanceView, ...]
    next: str | None
    revision: Revision


class RecordPage(Struct, frozen=True):
    """Record sets by name and type."""

    records: tuple[RecordView, ...]
    next: str | None
    revision: Revision


class PeerPage(Struct, frozen=True):
    """External peers by id."""

    peers: tuple[PeerView, ...]
    next: str | None
    revision: Revision


class HostPage(Struct, frozen=True):
    """Hosts by id. ``unreadable`` are all those whose stored document breaks a rule; the others are unharmed."""

    hosts: tuple[HostView, ...]
    unreadable: tuple[str, ...]
    next: str | None
    revision: HostsRevision


def cut_page(
    entries: Iterable[Entry], key: Callable[[Entry], str], query: PageQuery
) -> tuple[tuple[Entry, ...], str | None]:
    """The page of ``entries`` that ``query`` asks for, in the order of their keys as text.

    With it comes the key to ask after for the next page; None on the last one.
    """
    following = sorted((entry for entry in entries if key(entry) > query.after), key=key)
    page = tuple(following[: query.limit])
    return page, key(page[-1]) if len(following) > query.limit else None
