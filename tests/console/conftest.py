"""One platform and one browser for all tests of a file; a page of its own for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

from tests.console.platform import Platform, chromium, new_context, platform, sign_in


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright, chromium(playwright) as browser:
        yield browser


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with platform(tmp_path_factory.mktemp("up")) as up:
        yield up


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page in which nothing may go wrong: no script fails, and the security policy forbids nothing that we do."""
    context = new_context(browser)
    page, said = context.new_page(), []

    def note(message: ConsoleMessage) -> None:
        is_refusal = "status of 4" in message.text or "Error Code 4" in message.text  # which the page shows as well
        if message.type == "error" and not is_refusal:
            said.append(message.text)

    page.on("console", note)
    page.on("pageerror", lambda error: said.append(str(error)))
    yield page
    context.close()
    assert said == []


@pytest.fixture
def root(page: Page, up: Platform) -> Page:
    """A page on which the holder of the root token has signed in."""
    sign_in(page, up)
    return page
