"""Where the server is: a URL says so, or Sentinels name it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from store.client import Arguments, arguments_by_sentinel, arguments_of
from store.errors import Unavailable
from store.options import ALL, StoreOptions
from store.replication import Position, Replicas
from store.sentinel import Sentinels, Servers, choose
from store.url import Address, is_sentinel, read_sentinel_url, redact


@dataclass(frozen=True, slots=True)
class Electable:
    """The replicas any of which may become the primary."""

    up: frozenset[Address] = frozenset()
    """Where those are that were up when the server was last looked for."""
    past: frozenset[Address] = frozenset()
    """Where primaries of the past are that nobody has told of their successor yet. They are none."""
    are_known: bool = False
    """Whether there are replicas at all, up or not."""

    @property
    def number(self) -> int:
        """How many must confirm a write: all, and one at least where there are any."""
        return len(self.up) or int(self.are_known)

    def since(self, before: Electable) -> Electable:
        """These, and those of ``before``, which may only seem to be down."""
        return Electable((before.up | self.up) - self.past, self.past, self.are_known)


class Finder(Protocol):
    """Where the server is."""

    async def find(self) -> tuple[Address | None, Arguments]:
        """The address of the server, where Sentinels name it, and how to reach it. Raises `Unavailable`."""

    async def is_current(self, address: Address) -> bool:
        """Whether the server at ``address`` is still one to follow; also where nobody can tell."""

    @property
    def electable(self) -> Electable:
        """The replicas any of which may become the primary, as of when the server was last looked for."""

    async def count_holding(self, addresses: Iterable[Address], position: Position, deadline: float) -> int:
        """How many of the replicas at ``addresses`` say that they hold what was written up to ``position``.

        It returns when all do, or after ``deadline`` (``time.monotonic``).
        """

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
    def electable(self) -> Electable:
        return Electable()

    async def count_holding(self, _addresses: Iterable[Address], _position: Position, _deadline: float) -> int:
        return 0

    async def close(self) -> None:
        pass


class _NamedBySentinels:
    """The primary that Sentinels name, or a replica of it."""

    def __init__(self, url: str, options: StoreOptions) -> None:
        self._url = read_sentinel_url(url)
        self._options = options
        self._sentinels = Sentinels(self._url, redact(url), options.ca)
        self._replicas = Replicas(self._arguments, redact(url))
        self.electable = Electable()
        self._primary: Address | None = None
        self._former: set[Address] = set()  # primaries of the past that have not become replicas yet

    async def find(self) -> tuple[Address | None, Arguments]:
        address = choose(await self._candidates())
        return address, self._arguments(address)

    async def is_current(self, address: Address) -> bool:
        try:
            return address in await self._candidates()
        except Unavailable:
            return True  # in the middle of a failover, or no Sentinel is there: what we have is the best there is

    async def count_holding(self, addresses: Iterable[Address], position: Position, deadline: float) -> int:
        return await self._replicas.count_holding(addresses, position, deadline)

    async def close(self) -> None:
        await self._sentinels.close()
        await self._replicas.close()

    def _arguments(self, address: Address) -> Arguments:
        return arguments_by_sentinel(self._url, address, self._options.ca)

    async def _candidates(self) -> frozenset[Address]:
        found = await self._sentinels.servers()
        self._note_replicas(found)
        return (self._options.replicas and found.linked) or frozenset({found.primary})

    def _note_replicas(self, found: Servers) -> None:
        if self._primary not in (None, found.primary):
            self._former.add(self._primary)
        self._primary = found.primary
        self._former -= found.linked
        # The Sentinels tell a primary of the past of its successor after some ten seconds, and until then it confirms
        # nothing. Any other replica that takes itself for a primary may be the next one, whom they have not announced
        # yet: it counts, so that no write is acknowledged without it.
        past = found.unled & self._former
        self.electable = Electable(found.up - past, past, found.are_known)
