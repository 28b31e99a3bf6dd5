"""Everybody can use the console: axe-core finds nothing, nothing jumps, and a keyboard is enough."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from tests.console.platform import THEMES, WIDTHS, Platform, new_context, sign_in
from tests.console.screens import SCREENS, furnish, show

# Opened, as forms are seen only then: on each screen what a click on these shows
FORMS = {
    "overview": ["details.create > summary"],
    "environment": [
        "details.create:nth-of-type(2) > summary",
        "#service-api .card-actions button:nth-of-type(2)",
        "[aria-label='Edit db CNAME']",
    ],
}


@pytest.fixture(scope="module", params=[(theme, width) for theme in THEMES for width in WIDTHS], ids="-".join)
def looking(request: pytest.FixtureRequest, browser: Browser, up: Platform) -> Iterator[Page]:
    """A page of one theme and one width, on which somebody has signed in."""
    if not any(one["id"] == "shop" for one in up.client.get("environments")["environments"]):
        furnish(up.client)
    context = new_context(browser, *request.param)
    page = context.new_page()
    sign_in(page, up)
    yield page
    context.close()


@pytest.mark.parametrize("screen", SCREENS)
def test_axe_finds_nothing(looking: Page, up: Platform, screen: str) -> None:
    show(looking, up, screen)
    assert_usable(looking)
    for selector in FORMS.get(screen, []):
        looking.locator(selector).first.click()
        looking.locator("form:visible button").first.wait_for()
        assert_usable(looking)


def test_axe_finds_nothing_at_the_sign_in(browser: Browser, up: Platform) -> None:
    for theme in THEMES:
        context = new_context(browser, theme, "narrow")
        page = context.new_page()
        page.goto(up.url)
        page.get_by_label("Token").fill("wrong")
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("alert").first).to_contain_text("not valid")
        assert_usable(page)
        context.close()


@pytest.mark.parametrize("screen", SCREENS)
def test_no_screen_is_wider_than_the_window(looking: Page, up: Platform, screen: str) -> None:
    show(looking, up, screen)
    beyond = looking.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert beyond <= 0


@pytest.mark.parametrize("screen", SCREENS)
def test_nothing_jumps(looking: Page, up: Platform, screen: str) -> None:
    show(looking, up, screen)
    body = {"ttl": 60, "values": ['"x"']}
    looking.evaluate(
        "new PerformanceObserver(list => { for (const one of list.getEntries()) window.shifted ="
        " (window.shifted || 0) + one.value; }).observe({type: 'layout-shift', buffered: true})"
    )
    up.client.put("environments", "demo", "records", "jump", "TXT", body=body)  # the figures change meanwhile
    looking.wait_for_timeout(1500)  # long enough for a second look at the figures; what is measured is that time
    assert looking.evaluate("window.shifted || 0") < 0.05  # "good" is below 0.1 (web.dev/cls)


def test_the_theme_is_switched_and_kept(root: Page, up: Platform) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    light = root.evaluate(ground)
    switch = root.locator("#theme")
    switch.click()  # light, whatever the system has
    assert root.evaluate(ground) == light
    switch.click()
    expect(switch).to_have_attribute("aria-label", "Theme: dark")
    dark = root.evaluate(ground)
    assert dark != light
    root.goto(f"{up.url}/console/environments/demo")
    assert root.evaluate(ground) == dark
    expect(root.locator("html")).to_have_attribute("data-theme", "dark")


def test_a_keyboard_is_enough(root: Page, up: Platform) -> None:
    page = root
    page.goto(f"{up.url}/console/overview")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#main")).to_be_focused()
    summary = page.locator("details.create > summary")
    summary.focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.type("by-keyboard")
    page.keyboard.press("Escape")
    expect(summary).to_be_focused()
    expect(page.get_by_label("Name")).to_be_hidden()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_url("**/console/environments/by-keyboard")


def assert_usable(page: Page) -> None:
    """That axe-core finds nothing on ``page`` as it is now."""
    found = Axe().run(page).response["violations"]
    assert [(one["id"], [node["html"][:200] for node in one["nodes"]]) for one in found] == []
