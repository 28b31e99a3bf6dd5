"""Makes the pictures of docs/screenshots: ``python -m tests.console.screenshots``."""

from __future__ import annotations

import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

from tests.console.platform import THEMES, WIDTHS, chromium, new_context, platform, sign_in
from tests.console.screens import SCREENS, furnish, show
from tests.interlock.processes import ROOT

DIRECTORY = ROOT / "docs" / "screenshots"


def main() -> None:
    """Each screen, in both themes and both widths."""
    DIRECTORY.mkdir(exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as directory,
        platform(Path(directory)) as up,
        sync_playwright() as playwright,
        chromium(playwright) as browser,
    ):
        furnish(up.client)
        for theme in THEMES:
            for width in WIDTHS:
                context = new_context(browser, theme, width)
                page = context.new_page()
                sign_in(page, up)
                for screen in SCREENS:
                    show(page, up, screen)
                    page.screenshot(path=DIRECTORY / f"{screen}-{theme}-{width}.png")
                context.close()


if __name__ == "__main__":
    main()
