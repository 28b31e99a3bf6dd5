"""Pages stay true: through an end of the control plane, and for machines from outside, whose keys are made here."""

from __future__ import annotations

import asyncio
import base64
import shutil
import signal
import subprocess
import threading
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from store.leases import Lease
from store.store import Store
from tests.admin.api import enrol_host, make_host, make_key
from tests.console.platform import PATIENCE, Platform, new_context, platform, sign_in, sign_in_with
from tests.interlock.processes import run
from tests.store.servers import free_port

expect.set_options(timeout=PATIENCE)


def test_a_page_goes_on_after_an_end_of_the_control_plane(browser: Browser, tmp_path: Path) -> None:
    port = free_port()
    context = new_context(browser)
    page = context.new_page()
    with platform(tmp_path, port) as up:
        sign_in(page, up)
        page.goto(f"{up.url}/console/environments/demo")
        expect(page.locator("#live")).to_have_text("live")
        up.process.end(signal.SIGTERM)
        expect(page.locator("#live")).to_have_text("reconnecting …")
        expect(page.locator("#service-api")).to_be_visible()  # what was shown stays
    with platform(tmp_path, port) as up:
        up.client.put("environments", "demo", "services", "meanwhile", body={})
        expect(page.locator("#live")).to_have_text("live")
        expect(page.locator("#service-meanwhile")).to_be_visible()
    context.close()


def test_who_is_signed_out_comes_back_to_the_page(page: Page, up: Platform) -> None:
    path = ("environments", "demo", "tokens")
    made = up.client.post(*path, body={"name": "short"})
    sign_in_with(page, up, made["token"])
    address = f"{up.url}/console/environments/demo?q=api"
    page.goto(address)
    expect(page.locator("#live")).to_have_text("live")
    up.client.delete(*path, made["id"])
    page.wait_for_url("**/?to=*")
    page.get_by_label("Token").fill(up.make_token("demo"))
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(address)
    expect(page.locator("#service-api")).to_be_visible()


async def register(up: Platform) -> None:
    store = Store(f"unix://{up.state}/store.sock")
    await store.hosts.register(make_host(1))
    await enrol_host(store, "h1")
    await store.leases.renew(Lease("h1", "i1"), 3_600_000)
    await store.close()


def have_gateway(up: Platform) -> None:
    worker = threading.Thread(target=lambda: asyncio.run(register(up)))  # Playwright has the loop of this thread
    worker.start()
    worker.join()


def test_a_key_that_was_made_in_vain_is_put_into_no_configuration(root: Page, up: Platform) -> None:
    have_gateway(up)
    up.client.put("environments", "demo", "peers", "desktop", body={"public_key": make_key(7)})
    root.goto(f"{up.url}/console/environments/demo")
    root.locator("summary", has_text="Peer").click()
    root.get_by_label("Name of the machine").fill("desktop")
    root.locator("details.create[open]").get_by_role("button", name="Create").click()
    expect(root.get_by_role("alert")).to_contain_text("there is a peer 'desktop' already")
    root.locator("#peer-desktop").get_by_role("button", name="Configuration").click()
    expect(root.locator("[data-peer=desktop] pre").first).to_contain_text("the private key that belongs")
    expect(root.locator(".qr svg")).to_have_count(0)


def test_the_key_of_a_peer_is_made_in_the_browser_and_shown_once(root: Page, up: Platform, tmp_path: Path) -> None:
    if shutil.which("zbarimg") is None:
        pytest.skip("no zbarimg on this machine, to read a QR code: install the package zbar-tools")
    have_gateway(up)
    page = root
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.post_data or ""))
    page.goto(f"{up.url}/console/environments/demo")
    page.locator("summary", has_text="Peer").click()
    page.get_by_label("Name of the machine").fill("phone")
    page.locator("details.create[open]").get_by_role("button", name="Create").click()
    code = page.locator(".qr svg")
    expect(code).to_be_visible()
    expect(page.locator("#peer-phone")).to_be_visible()
    picture = tmp_path / "code.png"
    code.screenshot(path=picture)
    read = run("zbarimg", "--quiet", "--raw", str(picture)).stdout
    private = next(line for line in read.splitlines() if line.startswith("PrivateKey = ")).removeprefix("PrivateKey = ")
    assert len(base64.b64decode(private)) == 32
    if shutil.which("wg"):
        public = subprocess.run(["wg", "pubkey"], input=private, capture_output=True, text=True, check=True).stdout
        peer = up.client.get("environments", "demo", "peers", "phone")
        assert peer["public_key"] == public.strip()
    assert not [body for body in sent if private in body or private.rstrip("=") in body]
    with page.expect_download() as downloading:
        page.get_by_role("button", name="Download phone.conf").click()
    assert private in Path(downloading.value.path()).read_text()
    page.reload()
    page.locator("#peer-phone").get_by_role("button", name="Configuration").click()
    expect(page.locator("[data-peer=phone] pre").first).to_contain_text("the private key that belongs")
    panel = page.locator("#peer-panel")
    panel.get_by_role("button", name="Delete", exact=True).click()
    expect(panel.locator("del")).to_have_count(2)
    page.wait_for_load_state("networkidle")
    assert up.client.get("environments", "demo", "peers", "phone")  # what would go was shown, and nothing has gone
    panel.get_by_role("button", name="Delete", exact=True).click()
    expect(page.locator("#peer-phone")).to_have_count(0)
    expect(page.locator("#peer-panel")).to_be_empty()
