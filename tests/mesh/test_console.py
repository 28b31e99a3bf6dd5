"""The console of a platform with hosts, in a real browser: a host goes away, and the page that is open says so."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from tests.console.platform import HEIGHT, PATIENCE, WIDTHS
from tests.mesh import mesh as meshes
from tests.mesh.doctor import deployed
from tests.mesh.mesh import Mesh
from tests.mesh.topology import why_not


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    if reason := why_not():
        pytest.skip(f"no mesh of hosts: {reason}")
    if shutil.which("chromium") is None:
        pytest.skip("no chromium on this machine, to look at the console: install the package chromium")
    with meshes.running(tmp_path_factory.mktemp("mesh"), "auto", ("--host-grace", "1")) as mesh:
        mesh.add("h1", "h2")
        yield mesh


@pytest.fixture
def page(small: Mesh, tmp_path: Path) -> Iterator[Page]:
    """A page of the console of ``small``: the browser runs where the control plane is, and is spoken to by a pipe."""
    start = tmp_path / "chromium"
    start.write_text(f'#!/bin/sh\nexec {shlex.join(small.underlay.namespace.enter())} chromium "$@"\n')
    start.chmod(0o755)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=start, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTHS["wide"], "height": HEIGHT})
        page.set_default_timeout(PATIENCE)
        page.goto(small.client.sign_in_link()["url"])
        page.wait_for_url("**/console/overview")
        yield page
        browser.close()


def test_a_host_goes_away_and_its_line_appears(small: Mesh, page: Page) -> None:
    with deployed(small, "drawn", "h1", "h2"):
        page.goto(f"{small.client.url}/console/mesh")
        expect(page.locator("#mesh circle.host.live")).to_have_count(2)
        expect(page.locator("#mesh .link")).to_have_count(1)
        page.goto(f"{small.client.url}/console/deploys")
        expect(page.locator(".waterfalls li").first).to_contain_text("lookup: ")
        expect(page.locator(".histogram").first).to_contain_text("half of them up to")
        page.goto(f"{small.client.url}/console/mesh")
        page.locator("#live:has-text('live')").wait_for()
        small.nodes["h2"].agent.kill()
        try:
            expect(page.locator("#not-well")).to_contain_text("h2 is down", timeout=2 * PATIENCE)
            expect(page.locator("#mesh circle.host.down")).to_have_count(1)
            page.locator("#not-well button").first.click()
            expect(page.locator("#why")).to_contain_text("h2")
        finally:
            small.nodes["h2"].agent.start()
            small.nodes["h2"].until_ready()
        expect(page.locator("#mesh circle.host.live")).to_have_count(2, timeout=2 * PATIENCE)
