"""API tokens in the store. A token itself is never kept: its digest is the key under which its description is."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from store.connection import Connection


class Token(msgspec.Struct, frozen=True):
    """The description of an API token."""

    id: str
    """Names the token in the API."""
    environment: str
    """The one environment to which the token gives access; empty for an admin token, which is for all of them."""
    name: str
    """The name that its creator gave it."""
    created: int
    """When it was created, in Unix milliseconds."""
    expires: int | None = None
    """From when on it gives no access, in Unix milliseconds; None: it does so until it is removed."""
    read_only: bool = False
    """Whether it gives access to reads only."""


class TokenStore:
    """Reads and writes tokens. All methods raise `store.errors.Unavailable`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._key = connection.keys.tokens
        self._uses = connection.keys.token_uses

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

    async def uses(self) -> dict[str, int]:
        """When the tokens that were used were used last: token id → Unix milliseconds, to the minute."""
        async with self._connection.client() as redis:
            fields = await redis.hgetall(self._uses)
        return {id_.decode(errors="replace"): int(when) for id_, when in fields.items() if when.isdigit()}

    async def note_use(self, id_: str, when: int) -> None:
        """The token ``id_`` was used at ``when`` (Unix milliseconds)."""
        async with self._connection.client() as redis:
            await redis.hset(self._uses, id_, when)

    async def add(self, digest: str, token: Token) -> None:
        """Stores ``token`` under ``digest``."""
        async with self._connection.client() as redis:
            await redis.hset(self._key, digest, msgspec.json.encode(token))

    async def remove(self, tokens: Mapping[str, Token]) -> None:
        """Removes ``tokens``, given by their digests. One that is not there is passed over."""
        if tokens:
            async with self._connection.client() as redis:
                await redis.hdel(self._key, *tokens)
                await redis.hdel(self._uses, *(token.id for token in tokens.values()))


def decode_token(value: bytes) -> Token | None:
    """The token that ``value`` describes; None if it cannot be read."""
    try:
        return msgspec.json.decode(value, type=Token)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
