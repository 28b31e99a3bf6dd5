"""What people do: they sign in by a link, make an environment and a service, and change what is in them."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from tests.console.platform import PATIENCE, Platform, sign_in_with

expect.set_options(timeout=PATIENCE)


def test_from_the_link_to_the_sign_out(root: Page, up: Platform) -> None:
    page = root
    expect(page.locator("#live")).to_have_text("live")
    expect(page.get_by_text("All is well")).to_be_visible()

    # An environment, and a service in it
    page.get_by_text("New environment").click()
    page.get_by_label("Name").fill("shop")
    page.get_by_role("button", name="Create").click()
    page.wait_for_url("**/console/environments/shop")
    expect(page.get_by_role("heading", name="shop")).to_be_visible()
    page.get_by_text("Service", exact=True).click()
    form = page.locator("details.create[open]")
    form.get_by_label("Name").fill("api")
    form.get_by_label("Ports").fill("http:8080/tcp")
    form.get_by_role("button", name="Create").click()
    card = page.locator("#service-api")
    expect(card.get_by_text("api.railway.internal")).to_be_visible()
    expect(card.get_by_text("http 8080/tcp")).to_be_visible()
    expect(form).to_have_count(0)

    # Its instance is seen to start and to become ready, as somebody else deploys it
    path = ("environments", "shop", "services", "api", "instances", "a1")
    up.client.put(*path, body={"state": "starting"})
    expect(card.get_by_text("starting")).to_be_visible()
    up.client.put(*path, body={"state": "ready"})
    expect(card.get_by_text("ready")).to_be_visible()
    expect(card.locator("time")).to_be_visible()

    # A record, edited where it stands
    page.locator("summary", has_text="Record").click()
    form.get_by_label("Name").fill("db")
    form.get_by_label("Type").select_option("CNAME")
    form.get_by_label("Values").fill("api.railway.internal.")
    form.get_by_role("button", name="Show the difference").click()
    expect(form.locator("ins")).to_have_text("db 60 CNAME api.railway.internal.")
    assert up.client.get("environments", "shop", "records")["records"] == []
    form.get_by_role("button", name="Commit").click()
    expect(page.locator(".side-column").get_by_text("api.railway.internal.").first).to_be_visible()
    page.get_by_label("Edit db CNAME").click()
    editor = page.locator(".editor")
    editor.get_by_label("TTL").fill("300")
    editor.get_by_role("button", name="Show the difference").click()
    expect(editor.locator("del")).to_have_text("db 60 CNAME api.railway.internal.")
    expect(editor.locator("ins")).to_have_text("db 300 CNAME api.railway.internal.")
    editor.get_by_role("button", name="Commit").click()
    expect(editor).to_have_count(0)
    (record,) = up.client.get("environments", "shop", "records")["records"]
    assert record["ttl"] == 300

    # Who has changed what; and the change is undone
    newest = page.locator(".history > li").first
    expect(newest).to_contain_text("root")
    expect(newest).to_contain_text("300 s")
    newest.get_by_role("button").click()
    expect(page.locator(".history > li").first.locator("ins")).to_contain_text("60 s")
    (record,) = up.client.get("environments", "shop", "records")["records"]
    assert record["ttl"] == 60

    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("Token")).to_be_visible()
    page.go_back()
    expect(page.get_by_label("Token")).to_be_visible()


def test_a_clash_is_said_and_nothing_is_overwritten(root: Page, up: Platform) -> None:
    page = root
    path = ("environments", "demo", "records", "clash", "TXT")
    up.client.put(*path, body={"ttl": 60, "values": ['"first"']})
    page.goto(f"{up.url}/console/environments/demo")
    page.get_by_label("Edit clash TXT").click()
    editor = page.locator(".editor")
    editor.get_by_label("Values").fill('"mine"')
    editor.get_by_role("button", name="Show the difference").click()
    expect(editor.locator("ins")).to_contain_text("mine")
    up.client.put(*path, body={"ttl": 60, "values": ['"theirs"']})
    expect(page.locator(".side-column")).to_contain_text("theirs")  # and what was typed is still there
    expect(editor.get_by_label("Values")).to_have_value('"mine"')
    editor.get_by_role("button", name="Commit").click()
    expect(page.get_by_role("alert")).to_contain_text("theirs")
    assert up.client.get(*path)["values"] == ['"theirs"']
    editor.get_by_role("button", name="Show the difference").click()
    expect(editor.locator("del")).to_contain_text("theirs")
    editor.get_by_role("button", name="Commit").click()
    expect(page.get_by_role("alert")).to_be_empty()
    assert up.client.get(*path)["values"] == ['"mine"']


def test_what_is_typed_stays_when_what_it_is_of_is_deleted(root: Page, up: Platform) -> None:
    page = root
    path = ("environments", "demo", "records", "gone", "TXT")
    up.client.put(*path, body={"ttl": 60, "values": ['"first"']})
    up.client.put("environments", "demo", "records", "a-first-one", "TXT", body={"ttl": 60, "values": ['"x"']})
    page.goto(f"{up.url}/console/environments/demo")
    page.get_by_label("Edit gone TXT").click()
    editor = page.locator(".editor")
    editor.get_by_label("Values").fill('"mine"')
    editor.get_by_role("button", name="Show the difference").click()
    expect(editor.locator("ins")).to_contain_text("mine")
    up.client.delete("environments", "demo", "records", "a-first-one", "TXT")
    expect(page.get_by_label("Edit a-first-one TXT")).to_have_count(0)
    up.client.delete(*path)
    expect(page.locator(".history")).to_contain_text("record gone TXT deleted")
    expect(editor.get_by_label("Values")).to_have_value('"mine"')
    editor.get_by_role("button", name="Commit").click()
    expect(page.get_by_role("alert")).to_contain_text("to: nothing")
    editor.get_by_role("button", name="Show the difference").click()
    expect(editor.locator("del")).to_have_count(0)
    editor.get_by_role("button", name="Commit").click()
    expect(editor).to_have_count(0)
    assert up.client.get(*path)["values"] == ['"mine"']
    page.get_by_label("Delete gone TXT").click()
    page.locator(".editor").get_by_role("button", name="Delete").click()
    expect(page.get_by_label("Edit gone TXT")).to_have_count(0)


def test_a_wildcard_is_edited_where_it_stands(root: Page, up: Platform) -> None:
    for name, value in (("*.shop", "10.0.0.1"), ("any.shop", "10.0.0.2")):
        up.client.put("environments", "demo", "records", name, "A", body={"ttl": 60, "values": [value]})
    root.goto(f"{up.url}/console/environments/demo")
    root.get_by_label("Edit *.shop A").click()
    root.get_by_label("Edit any.shop A").click()
    expect(root.locator("li:has(> .slot textarea) strong")).to_have_text(["*.shop", "any.shop"])
    root.locator("li:has(> .slot textarea) input[name=ttl]").last.fill("77")
    up.client.put("environments", "demo", "records", "*.shop", "A", body={"ttl": 61, "values": ["10.0.0.3"]})
    expect(root.locator(".side-column")).to_contain_text("61 s")
    assert len(set(root.locator("[id]").evaluate_all("all => all.map(one => one.id)"))) == root.locator("[id]").count()
    expect(root.locator("li:has(> .slot textarea) input[name=ttl]")).to_have_count(2)
    expect(root.locator("li:has(> .slot textarea) input[name=ttl]").last).to_have_value("77")


def test_a_search_stays_when_something_is_changed(root: Page, up: Platform) -> None:
    page = root
    for service in ("searched", "other"):
        up.client.put("environments", "demo", "services", service, body={})
    # By the events, the page would get there, too.
    page.route("**/console/events*", lambda route: route.fulfill(status=200, content_type="text/event-stream", body=""))
    page.goto(f"{up.url}/console/environments/demo?q=searched")
    card = page.locator("#service-searched")
    card.get_by_role("button", name="Ports").click()
    card.get_by_label("Ports").fill("http:8080")
    card.get_by_role("button", name="Show the difference").click()
    card.get_by_role("button", name="Commit").click()
    expect(card.locator(".chips")).to_contain_text("http 8080/tcp")
    expect(page.get_by_role("searchbox")).to_have_value("searched")
    expect(page.locator("#service-other")).to_have_count(0)


def test_a_form_that_is_sent_twice_at_once_is_sent_once(root: Page, up: Platform) -> None:
    root.goto(f"{up.url}/console/environments/demo")
    root.locator("summary", has_text="Service").click()
    form = root.locator("details.create[open] form")
    form.get_by_label("Name").fill("once")
    form.evaluate("form => { form.requestSubmit(); form.requestSubmit(); }")
    expect(root.locator("#service-once")).to_be_visible()
    root.wait_for_load_state("networkidle")
    expect(root.get_by_role("alert")).to_be_empty()


def test_other_changes_of_the_environment_are_no_clash(root: Page, up: Platform) -> None:
    page = root
    up.client.put("environments", "demo", "records", "calm", "TXT", body={"ttl": 60, "values": ['"a"']})
    page.goto(f"{up.url}/console/environments/demo")
    page.get_by_label("Edit calm TXT").click()
    editor = page.locator(".editor")
    editor.get_by_label("TTL").fill("61")
    editor.get_by_role("button", name="Show the difference").click()
    expect(editor.locator("ins")).to_be_visible()
    up.client.put("environments", "demo", "services", "other", body={})
    expect(page.locator("#service-other")).to_be_visible()
    editor.get_by_role("button", name="Commit").click()
    expect(editor).to_have_count(0)
    assert up.client.get("environments", "demo", "records", "calm", "TXT")["ttl"] == 61


def test_a_rename_says_until_when_the_old_name_is_answered(root: Page, up: Platform) -> None:
    page = root
    up.client.put("environments", "demo", "services", "before", body={})
    page.goto(f"{up.url}/console/environments/demo")
    page.locator("#service-before").get_by_role("button", name="Rename").click()
    page.get_by_label("New name").fill("after")
    page.locator(".editor").get_by_role("button", name="Rename").click()
    expect(page.locator("#service-after")).to_contain_text("before is answered too, until")
    expect(page.locator("#service-after").get_by_role("link", name="Who still asks for it")).to_be_visible()


def test_what_goes_with_a_service_is_shown_before_it_is_deleted(root: Page, up: Platform) -> None:
    page = root
    up.client.put("environments", "demo", "services", "old", body={})
    up.client.put("environments", "demo", "services", "old", "instances", "o1", body={})
    page.goto(f"{up.url}/console/environments/demo")
    page.locator("#service-old").get_by_role("button", name="Delete").click()
    expect(page.locator(".editor del")).to_have_text(["old", "o1.old"])
    page.locator(".editor").get_by_role("button", name="Delete").click()
    expect(page.locator("#service-old")).to_have_count(0)


def test_a_token_that_only_reads_has_no_buttons(page: Page, up: Platform) -> None:
    sign_in_with(page, up, up.make_token("demo", read_only=True))
    expect(page.get_by_role("heading", name="demo")).to_be_visible()
    expect(page.locator("#service-api")).to_be_visible()
    assert page.locator("main [hx-post], main details, main [hx-get*='editor']").count() == 0
    assert page.get_by_role("link", name="Overview").count() == 0


def test_a_search_finds_environments_by_their_services(root: Page, up: Platform) -> None:
    page = root
    page.get_by_label("Search environments and services").fill("postgres")
    expect(page.get_by_role("link", name="postgres")).to_be_visible()
    page.get_by_label("Search environments and services").fill("nothing-like-it")
    expect(page.get_by_text("is called like")).to_be_visible()
    page.get_by_label("Search environments and services").fill("postgres")
    page.get_by_role("link", name="postgres").click()
    expect(page.locator(".card")).to_have_count(1)
