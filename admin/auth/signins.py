"""Sign-ins to the console: a browser that has shown a token is known by a cookie from then on.

The cookie is 256 random bits, of which the store has the digest, so every control plane on the store knows the
sign-in. It opens what its token opens, as long as that token is valid: it ends with the token, by itself after
`SIGN_IN_SECONDS`, and when its holder signs out. It opens the API to a page of the console alone, which shows with each
request that it knows the text made from the cookie; a token in a header opens no page of the console.

The digest of the root token is not written to the store, where people who chose that token themselves could have it
guessed; a proof is, for which the cookie is needed.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import OrderedDict

from admin.auth import actors, tokens
from admin.auth.actors import Actor, Admin, Anonymous, Root, Tenant
from store.errors import Unavailable
from store.signins import SignIn
from store.store import Store

SIGN_IN_SECONDS = 12 * 3600  # a working day; whoever finds the browser open the next morning is not signed in
LINK_SECONDS = 300  # from a terminal to a browser, which may be on another machine
MOST_REMEMBERED = 1_000  # of the root token, for outages of the store


class SignIns:
    """Begins, finds and ends sign-ins."""

    def __init__(self, store: Store, root_token_digest: str) -> None:
        self._store = store
        self._root = root_token_digest
        self._remembered: OrderedDict[str, int] = OrderedDict()  # digest of a cookie → until when it is valid

    async def begin(self, actor: Actor, token: str) -> str:
        """Signs in ``actor``, who has shown ``token``; gives the cookie. Raises `store.errors.Unavailable`."""
        return await self._begin(actor, tokens.digest(token))

    async def make_link(self, actor: Actor, token: str) -> str:
        """The secret of a link that signs in ``actor``, who has shown ``token``, once. Raises as `begin` does."""
        secret = tokens.make_token()
        made = await self._make(actor, secret, tokens.digest(token), LINK_SECONDS)
        await self._store.sign_ins.add_link(tokens.digest(secret), made, LINK_SECONDS)
        return secret

    async def follow_link(self, secret: str) -> tuple[Actor, str]:
        """Who is signed in by the link with ``secret``, and the cookie; `Anonymous` where the link is not valid."""
        if not tokens.is_well_formed(secret):
            return Anonymous(presented=True), ""
        link = await self._store.sign_ins.take_link(tokens.digest(secret))
        actor = await self._actor(link, secret)
        if link is None or isinstance(actor, Anonymous):
            return Anonymous(presented=True), ""
        return actor, await self._begin(actor, link.token)

    async def find(self, cookie: str) -> Actor:
        """Who has signed in with ``cookie``; `Anonymous` where nobody has, or that has ended.

        While the store does not answer, those go on that were made with the root token and are known here: they show
        what is wrong. Raises `store.errors.Unavailable` for all others.
        """
        digest = tokens.digest(cookie)
        try:
            found = await self._store.sign_ins.find(digest)
            actor = await self._actor(found, cookie)
        except Unavailable:
            if self._remembered.get(digest, 0) > self._store.clock.now() * 1000:
                return Root()
            raise
        if isinstance(actor, Root) and found:
            self._remember(digest, found.until)
        return actor

    async def end(self, cookie: str) -> None:
        """Signs out. Raises `store.errors.Unavailable`."""
        self._remembered.pop(tokens.digest(cookie), None)
        await self._store.sign_ins.remove(tokens.digest(cookie))

    async def _begin(self, actor: Actor, token_digest: str) -> str:
        cookie = tokens.make_token()
        made = await self._make(actor, cookie, token_digest, SIGN_IN_SECONDS)
        await self._store.sign_ins.add(tokens.digest(cookie), made, SIGN_IN_SECONDS)
        return cookie

    async def _make(self, actor: Actor, secret: str, token_digest: str, seconds: int) -> SignIn:
        until = await self._store.clock.milliseconds() + seconds * 1000
        if isinstance(actor, Root):
            return SignIn("", _proof(secret, self._root), until)
        return SignIn(token_digest, "", until)

    async def _actor(self, found: SignIn | None, secret: str) -> Root | Admin | Tenant | Anonymous:
        if found is None or found.until <= await self._store.clock.milliseconds():
            return Anonymous(presented=True)
        if found.token:
            return await actors.find(found.token, self._store)
        return Root() if hmac.compare_digest(found.proof, _proof(secret, self._root)) else Anonymous(presented=True)

    def _remember(self, digest: str, until: int) -> None:
        self._remembered[digest] = until
        self._remembered.move_to_end(digest)
        if len(self._remembered) > MOST_REMEMBERED:
            self._remembered.popitem(last=False)


def csrf_token(cookie: str) -> str:
    """What a page sends beside ``cookie`` with each change: another site may have that sent, but never knows this."""
    return hmac.new(cookie.encode(), b"csrf", hashlib.sha256).hexdigest()


def _proof(secret: str, root_token_digest: str) -> str:
    return hmac.new(root_token_digest.encode(), secret.encode(), hashlib.sha256).hexdigest()
