"""Which client sent a request: its token is looked up in the store, but not for whoever makes tokens up.

A token that was good here a moment ago is looked up at once. Any other costs its source network one of the requests
that it may send without a valid token; it gets that back if the token is good. So a client that guesses tokens asks the
store no more often than it may ask for anything else, and whoever has a token does not notice it.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable

from admin.auth import actors, tokens
from admin.auth.actors import Actor, Anonymous, Root
from admin.auth.signins import SignIns
from admin.errors import RateLimited
from admin.http.limits import Buckets
from store.store import Store

MOST_KNOWN = 10_000  # tokens that were good lately; a megabyte


class Identifier:
    """Finds out who sent a request: by the root token, or by ``store`` at the pace of ``strangers``.

    Browsers are known by ``sign_ins`` instead of a token.
    """

    def __init__(self, store: Store, root_token_digest: str, strangers: Buckets, sign_ins: SignIns) -> None:
        self._store = store
        self._sign_ins = sign_ins
        self._root = root_token_digest
        self._strangers = strangers
        self._known: OrderedDict[str, None] = OrderedDict()

    def identify_root(self, authorization: str) -> Actor:
        """The actor of a request that needs no token: `Root` where it has the root token. It asks no store."""
        return actors.identify_root(authorization, self._root)

    async def identify(self, authorization: str, network: str) -> tuple[Actor, bool]:
        """The actor that sent ``authorization`` from ``network``, and whether that was counted as a stranger's request.

        Raises `RateLimited`, and `store.errors.Unavailable`.
        """
        actor = self.identify_root(authorization)
        token = actors.bearer(authorization)
        if isinstance(actor, Root) or not tokens.is_well_formed(token):
            return actor, False
        digest = tokens.digest(token)
        return await self._look_up(digest, network, lambda: actors.find(digest, self._store))

    async def identify_sign_in(self, cookie: str, network: str) -> tuple[Actor, bool]:
        """The actor of the sign-in that ``cookie`` names, as `identify` gives that of a token. Raises the same."""
        if not tokens.is_well_formed(cookie):
            return Anonymous(presented=bool(cookie)), False
        return await self._look_up(tokens.digest(cookie), network, lambda: self._sign_ins.find(cookie))

    async def _look_up(self, digest: str, network: str, find: Callable[[], Awaitable[Actor]]) -> tuple[Actor, bool]:
        is_known = digest in self._known
        if not is_known and (wait := self._strangers.take(network, time.monotonic())):
            raise RateLimited("too many requests without a valid token: wait as long as Retry-After says", wait=wait)
        try:
            found = await find()
        except BaseException:
            self._give_back(network, is_known)
            raise
        if isinstance(found, Anonymous):
            self._known.pop(digest, None)
            return found, not is_known
        self._give_back(network, is_known)
        self.note_good(digest)
        return found, False

    def note_good(self, digest: str) -> None:
        """The token with ``digest`` is good."""
        self._known[digest] = None
        self._known.move_to_end(digest)
        if len(self._known) > MOST_KNOWN:
            self._known.popitem(last=False)

    def _give_back(self, network: str, is_known: bool) -> None:
        if not is_known:
            self._strangers.give_back(network)
