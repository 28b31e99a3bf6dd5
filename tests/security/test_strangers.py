"""Strangers learn nothing of the store: where it is, as whom it is asked, why it does not answer."""

from __future__ import annotations

from contextlib import AsyncExitStack

import pytest

from store.store import Store
from tests.admin.api import NO_TOKEN, ROOT, Api, E
from tests.store.servers import free_port
from tests.worlds import PRODUCTION

FROM_ELSEWHERE = {"X-Forwarded-For": "192.0.2.1"}
SECRETS = ("hunter2", "operator", "redis://", "127.0.0.1", "refused")


@pytest.mark.parametrize("token", [NO_TOKEN, "ilk_" + "x" * 43], ids=["no token", "a token that nobody can check"])
async def test_of_a_store_that_does_not_answer(token: str) -> None:
    async with AsyncExitStack() as stack:
        store = Store(f"redis://operator:hunter2@127.0.0.1:{free_port()}")
        stack.push_async_callback(store.close)
        api = await stack.enter_async_context(Api(store))
        for path in (E, f"{E}/services", "/v1/environments", f"/v1/explain?environment={PRODUCTION}&name=x."):
            answer = await api.get(path, token=token, headers=FROM_ELSEWHERE)
            assert answer.status == (503 if token else 401)
            assert not [secret for secret in SECRETS if secret in str(answer.body)]
        root = await api.get(E, token=ROOT, headers=FROM_ELSEWHERE)
        assert root.status == 503
        assert "redis://" in root.body["detail"]
        assert "hunter2" not in root.body["detail"]
