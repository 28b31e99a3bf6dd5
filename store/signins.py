"""Sign-ins to the console in the store, and the links that begin one: each under its digest, and ends by itself.

Neither holds a token. A sign-in has the digest of the token that it was made with, so it ends with that token; that of
the root token, which control planes alone know, has a proof of it instead.
"""

from __future__ import annotations

import msgspec

from store.connection import Connection

_USED = b"used"  # stands where a link was, until its time is over


class SignIn(msgspec.Struct, frozen=True):
    """What a sign-in, or a link to one, was made with."""

    token: str
    """The digest of the API token; empty for the root token."""
    proof: str
    """That whoever made it had the root token; empty for every other token."""
    until: int
    """When it ends, in Unix milliseconds."""


class SignInStore:
    """Reads and writes sign-ins. All methods raise `store.errors.Unavailable`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._keys = connection.keys

    async def add(self, digest: str, sign_in: SignIn, seconds: int) -> None:
        """Keeps ``sign_in`` under ``digest`` for ``seconds``."""
        async with self._connection.client() as redis:
            await redis.set(self._keys.sign_in(digest), msgspec.json.encode(sign_in), ex=seconds)

    async def find(self, digest: str) -> SignIn | None:
        """The sign-in whose digest is ``digest``; None if there is none, or no longer."""
        async with self._connection.client() as redis:
            return _decode(await redis.get(self._keys.sign_in(digest)))

    async def remove(self, digest: str) -> None:
        """Ends the sign-in ``digest``."""
        async with self._connection.client() as redis:
            await redis.delete(self._keys.sign_in(digest))

    async def add_link(self, digest: str, sign_in: SignIn, seconds: int) -> None:
        """Keeps for ``seconds`` that the link whose digest is ``digest`` begins ``sign_in``."""
        async with self._connection.client() as redis:
            await redis.set(self._keys.sign_in_link(digest), msgspec.json.encode(sign_in), ex=seconds)

    async def take_link(self, digest: str) -> SignIn | None:
        """What the link ``digest`` begins, which is used by that; None if there is none, or it was used before."""
        async with self._connection.client() as redis:
            found = await redis.set(self._keys.sign_in_link(digest), _USED, xx=True, get=True, keepttl=True)
        return _decode(found)


def _decode(value: bytes | None) -> SignIn | None:
    if value is None:
        return None
    try:
        return msgspec.json.decode(value, type=SignIn)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
