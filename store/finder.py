"""Where the server is: a URL says so, or Sentinels name it."""

from __future__ import annotations

from typing import Protocol

from store.client import Arguments, arguments_by_sentinel, arguments_of
from store.errors import Unavailable
from store.options import ALL, StoreOptions
from store.sentinel import Sentinels, Servers, choose
from store.url import Address, is_sentinel, read_sentinel_url, redact


class Finder(Protocol):
    """Where the server is."""

    async def find(self) -> tuple[Address | None, Arguments]:
        """The address of the server, where Sentinels name it, and how to reach it. Raises `Unavailable`."""

    async def is_current(self, address: Address) -> bool:
        """Whether the server at ``address`` is still one to follow; also where nobody can tell."""

    @property
    def replicas(self) -> int:
        """How many replicas were up when the server was last looked for, any of which may become the primary."""

    async def close(self) -> None:
        """Closes what was opened to find servers."""


def finder_of(url: str, options: StoreOptions) -> Finder:
    """What finds the server at ``url``. Raises ``ValueError`` where ``options`` ask for what nobody there can tell."""
    return _NamedBySentinels(url, options) if is_sentinel(url) else _OneServer(url, options)


class _OneServer:
    """The server that a URL names."""

    def __init__(self, url: str, options: StoreOptions) -> None:
        if options.wait == ALL:
            raise ValueError(
                f"{redact(url)!r} names no Sentinels, who would know all replicas: wait for a number of them"
            )
        self._arguments = arguments_of(url, options.ca)

    async def find(self) -> tuple[Address | None, Arguments]:
        return None, self._arguments

    async def is_current(self, _address: Address) -> bool:
        return True

    @property
    def replicas(self) -> int:
        return 0

    async def close(self) -> None:
        pass


class _NamedBySentinels:
    """The primary that Sentinels name, or a replica of it."""

    def __init__(self, url: str, options: StoreOptions) -> None:
        self._url = read_sentinel_url(url)
        self._options = options
        self._sentinels = Sentinels(self._url, redact(url), options.ca)
        self.replicas = 0
        self._primary: Address | None = None
        self._former: set[Address] = set()  # primaries of the past that have not become replicas yet

    async def find(self) -> tuple[Address | None, Arguments]:
        address = choose(await self._candidates())
        return address, arguments_by_sentinel(self._url, address, self._options.ca)

    async def is_current(self, address: Address) -> bool:
        try:
            return address in await self._candidates()
        except Unavailable:
            return True  # in the middle of a failover, or no Sentinel is there: what we have is the best there is

    async def close(self) -> None:
        await self._sentinels.close()

    async def _candidates(self) -> frozenset[Address]:
        found = await self._sentinels.servers()
        self._count_replicas(found)
        return (self._options.replicas and found.linked) or frozenset({found.primary})

    def _count_replicas(self, found: Servers) -> None:
        if self._primary not in (None, found.primary):
            self._former.add(self._primary)
        self._primary = found.primary
        self._former -= found.linked
        # The Sentinels tell a primary of the past of its successor after some ten seconds, and until then it confirms
        # nothing. Any other replica that takes itself for a primary may be the next one, whom they have not announced
        # yet: it counts, so that no write is acknowledged without it.
        self.replicas = len(found.up - (found.unled & self._former)) or int(found.are_known)
