"""An ``interlock up`` to look at, and the browser that looks."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Playwright

from interlock.client import Client
from tests.interlock.processes import Running, interlock, started
from tests.store.servers import free_port
from tests.waiting import scaled

WIDTHS = {"wide": 1280, "narrow": 390}
THEMES = ("light", "dark")
HEIGHT = 820
PATIENCE = scaled(20.0) * 1000  # milliseconds until what is waited for is there


@dataclass(frozen=True)
class Platform:
    """An ``interlock up`` with the demo."""

    process: Running
    url: str
    client: Client
    state: Path

    def link(self) -> str:
        """A link that signs in as root, once."""
        url: str = self.client.sign_in_link()["url"]
        return url

    def make_token(self, environment: str, **fields: bool) -> str:
        """A new token of ``environment``."""
        made = self.client.post("environments", environment, "tokens", body={"name": "test", **fields})
        token: str = made["token"]
        return token


@contextmanager
def platform(directory: Path, port: int = 0) -> Iterator[Platform]:
    """An ``interlock up --demo`` that keeps its data in ``directory``."""
    port = port or free_port()
    command = interlock(
        "up", "--demo", "--state-dir", str(directory), "--dns-listen", "127.0.0.1:0", "--api-listen",
        f"127.0.0.1:{port}", "--upstream", "none",
    )  # fmt: skip
    with started(*command) as process:
        welcome = process.read_until("Stop ")
        found = re.search(r"API +(http://\S+)", welcome)
        assert found
        token = (directory / "admin.token").read_text().strip()
        yield Platform(process, found[1], Client(found[1], token), directory)


@contextmanager
def chromium(playwright: Playwright) -> Iterator[Browser]:
    """The browser of the distribution; a test that needs one is skipped where there is none, with the reason."""
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("no chromium on this machine, to look at the console: install the package chromium")
    browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])  # root, in a container
    try:
        yield browser
    finally:
        browser.close()


def new_context(browser: Browser, theme: str = "light", width: str = "wide") -> BrowserContext:
    """A window of its own: its cookies, its theme and its size."""
    context = browser.new_context(
        viewport={"width": WIDTHS[width], "height": HEIGHT},
        color_scheme="dark" if theme == "dark" else "light",
        reduced_motion="reduce",
    )
    context.set_default_timeout(PATIENCE)
    return context


def sign_in(page: Page, platform: Platform) -> None:
    """Follows a link of ``interlock console``, and waits for the page that it leads to."""
    page.goto(platform.link())
    page.wait_for_url("**/console/overview")


def sign_in_with(page: Page, platform: Platform, token: str) -> None:
    """Signs in with ``token``, as people type it."""
    page.goto(platform.url)
    page.get_by_label("Token").fill(token)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/console/**")
