"""A browser that looks at the API, and one in which the holder of the root token has signed in."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.admin.api import ROOT, Api
from tests.admin.console.browser import Browser


@pytest_asyncio.fixture
async def browser(api: Api) -> AsyncIterator[Browser]:
    async with Browser(api) as browser:
        yield browser


@pytest_asyncio.fixture
async def root(api: Api) -> AsyncIterator[Browser]:
    async with Browser(api) as browser:
        assert (await browser.sign_in(ROOT)).status == 303
        yield browser
