"""Who makes tokens up asks the store no more often than strangers may; who has a token does not notice it."""

from __future__ import annotations

import asyncio

import pytest

from admin.auth.tokens import make_token
from admin.http.limits import Limits
from store.store import Store
from store.tokens import TokenStore
from tests.admin.api import NO_TOKEN, Api, E

SLOW = Limits(anonymous_rate=0.01, anonymous_burst=5.0)


@pytest.fixture
def look_ups(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The digests that the store was asked for."""
    asked: list[str] = []
    find = TokenStore.find

    async def counted(self: TokenStore, digest: str) -> object:
        asked.append(digest)
        return await find(self, digest)

    monkeypatch.setattr(TokenStore, "find", counted)
    return asked


async def test_made_up_tokens_cost_the_store_their_rate_and_no_more(store: Store, look_ups: list[str]) -> None:
    async with Api(store, SLOW) as api:
        await api.put(E, {})
        tenant = await api.make_token()
        assert (await api.get(E, token=tenant)).status == 200
        look_ups.clear()
        answers = await asyncio.gather(*(api.get(E, token=make_token()) for _ in range(200)))
        statuses = [answer.status for answer in answers]
        assert statuses.count(401) == len(look_ups) == 5
        assert statuses.count(429) == 195
        for _ in range(20):
            assert (await api.get(E, token=tenant)).status == 200


async def test_a_good_token_that_was_never_seen_here_costs_nothing_in_the_end(store: Store) -> None:
    async with Api(store) as api:
        await api.put(E, {})
        made = [await api.make_token() for _ in range(20)]
    async with Api(store, SLOW) as other:
        for token in made:
            assert (await other.get(E, token=token)).status == 200
        assert (await other.get(E, token=NO_TOKEN)).status == 401


async def test_the_same_bad_token_is_not_remembered_as_good(store: Store, look_ups: list[str]) -> None:
    async with Api(store, SLOW) as api:
        bad = make_token()
        assert [(await api.get(E, token=bad)).status for _ in range(7)] == [401] * 5 + [429] * 2
        assert len(look_ups) == 5
