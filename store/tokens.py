"""API tokens in the store. A token itself is never kept: its digest is the key under which its description is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from store.connection import Connection


class Token(msgspec.Struct, frozen=True):
    """The description of an API token."""

    id: str
    """Names the token in the API."""
    environment: str
    """The one environment to which the token gives access."""
    name: str
    """The name that its creator gave it."""
    created: int
    """When it was created, in Unix milliseconds."""


class TokenStore:
    """Reads and writes tokens. All methods raise `store.errors.Unavailable`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._key = connection.keys.tokens

    async def read(self) -> Mapping[str, Token]:
        """All tokens that can be read, by their digest. Any other gives access to nothing."""
        async with self._connection.client() as redis:
            fields = await redis.hgetall(self._key)
        found = {digest.decode(errors="replace"): decode_token(value) for digest, value in fields.items()}
        return {digest: token for digest, token in found.items() if token}

    async def find(self, digest: str) -> Token | None:
        """The token whose digest is ``digest``."""
        async with self._connection.client() as redis:
            value = await redis.hget(self._key, digest)
        return decode_token(value) if value else None

    async def add(self, digest: str, token: Token) -> None:
        """Stores ``token`` under ``digest``."""
        async with self._connection.client() as redis:
            await redis.hset(self._key, digest, msgspec.json.encode(token))

    async def remove(self, digests: Iterable[str]) -> None:
        """Removes the tokens with ``digests``. A digest that is not there is passed over."""
        if removed := list(digests):
            async with self._connection.client() as redis:
                await redis.hdel(self._key, *removed)


def decode_token(value: bytes) -> Token | None:
    """The token that ``value`` describes; None if it cannot be read."""
    try:
        return msgspec.json.decode(value, type=Token)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
