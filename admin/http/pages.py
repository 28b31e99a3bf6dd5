"""Long lists, a page at a time: how many entries a page holds, and after which entry the next page starts."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Annotated, TypeVar

from msgspec import Meta, Struct

Item = TypeVar("Item")

DEFAULT_PAGE = 100  # entries
LARGEST_PAGE = 1000  # entries of some kilobytes each: a limit to the size of one reply


class PageQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """Which page to list: at most ``limit`` entries, starting with the first one after the key ``after``."""

    limit: Annotated[int, Meta(ge=1, le=LARGEST_PAGE, description="entries at most")] = DEFAULT_PAGE
    after: Annotated[str, Meta(description="'next' of the page before")] = ""


def cut_page(
    items: Iterable[Item], key: Callable[[Item], str], query: PageQuery
) -> tuple[tuple[Item, ...], str | None]:
    """The page of ``items`` that ``query`` asks for, in the order of their keys as text.

    The second value is the ``after`` of the next page; None on the last page.
    """
    following = sorted((item for item in items if key(item) > query.after), key=key)
    page = tuple(following[: query.limit])
    return page, key(page[-1]) if len(following) > query.limit else None
