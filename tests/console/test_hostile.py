"""What somebody hostile puts into names, records and addresses of pages is text, in a real browser."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.console.platform import Platform, new_context, sign_in

ATTACKS = (
    "<script>window.pwned=1</script>",
    '"><img src=x onerror=window.pwned=1>',
    "'><svg onload=window.pwned=1>",
    "<img src=x onerror=window.pwned=1>{{7*7}}{% raw %}",
    '" hx-get="/console/sign-out" hx-trigger="load" x="',
    "javascript:window.pwned=1",
    "</textarea><script>window.pwned=1</script>",
)


def test_records_are_text_wherever_they_are_shown(root: Page, up: Platform) -> None:
    page = root
    values = [f'"{attack}"'.replace("\\", "\\\\") for attack in (attack.replace('"', r"\"") for attack in ATTACKS)]
    up.client.put("environments", "demo", "records", "hostile", "TXT", body={"ttl": 60, "values": values[:4]})
    up.client.put("environments", "demo", "records", "hostile", "TXT", body={"ttl": 60, "values": values})
    page.goto(f"{up.url}/console/environments/demo")
    expect(page.locator(".side-column")).to_contain_text("<script>")
    page.get_by_label("Edit hostile TXT").click()
    editor = page.locator(".editor")
    expect(editor.get_by_label("Values")).to_have_value("\n".join(values))
    editor.get_by_label("TTL").fill("61")
    editor.get_by_role("button", name="Show the difference").click()
    expect(editor.locator("ins")).to_have_count(len(values))
    editor.get_by_role("button", name="Commit").click()
    expect(editor).to_have_count(0)  # shown once more, by the way of events and morphing
    assert_harmless(page)


@pytest.mark.parametrize("attack", ATTACKS)
def test_addresses_of_pages_are_text(root: Page, up: Platform, attack: str) -> None:
    for path in (
        f"/console/overview?q={quote(attack)}",
        f"/console/environments/demo?q={quote(attack)}",
        f"/console/environments/{quote(attack, safe='')}",
        f"/console/environments/demo/records/editor?name={quote(attack)}&type={quote(attack)}",
        f"/console/enter/{quote(attack, safe='')}",
        f"/?to={quote(attack)}",
    ):
        root.goto(up.url + path)
        assert_harmless(root)


def test_what_is_typed_is_text_in_what_is_said_of_it(root: Page, up: Platform) -> None:
    page = root
    page.goto(f"{up.url}/console/environments/demo")
    page.locator("summary", has_text="Service").click()
    form = page.locator("details.create[open]")
    form.get_by_label("Name").fill(ATTACKS[1])
    form.get_by_role("button", name="Create").click()
    expect(page.get_by_role("alert")).to_contain_text("onerror")
    assert_harmless(page)


def test_no_page_is_shown_in_a_frame_and_no_script_of_another_is_run(browser: Browser, up: Platform) -> None:
    context = new_context(browser)
    page = context.new_page()
    sign_in(page, up)
    blocked: list[str] = []
    page.on("console", lambda message: blocked.append(message.text))
    page.route("**/framing", lambda route: route.fulfill(body=f"<iframe src='{up.url}/console/overview'></iframe>"))
    page.goto(f"{up.url}/framing")
    page.wait_for_function("document.querySelector('iframe') !== null")
    frame = page.frames[-1]
    assert "Environments" not in frame.content()
    page.goto(f"{up.url}/console/overview")
    page.evaluate("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=window.pwned=1>')")
    page.evaluate("document.body.append(Object.assign(document.createElement('script'), {text: 'window.pwned=1'}))")
    page.wait_for_timeout(300)  # nothing is to happen in it
    assert page.evaluate("window.pwned") is None
    assert any("Content Security Policy" in text for text in blocked)
    context.close()


def test_the_cookie_is_no_script_s(root: Page) -> None:
    assert "interlock=" not in root.evaluate("document.cookie")


def assert_harmless(page: Page) -> None:
    """That nothing of what was put in has been run, and that somebody is signed in still."""
    assert page.evaluate("window.pwned") is None
    assert page.evaluate("document.querySelectorAll('[onerror], [onload], main script').length") == 0
