"""The screens of the console, and what is there to be seen on them."""

from __future__ import annotations

from collections.abc import Mapping

from playwright.sync_api import Page

from interlock.client import Client
from tests.console.platform import Platform

SCREENS: Mapping[str, str] = {
    # name → path, and in a page what is there once all of it is shown
    "overview": "/console/overview",
    "environment": "/console/environments/shop",
}
SHOWN: Mapping[str, str] = {
    "overview": "#doctor :is(.well, .marks)",
    "environment": "#service-api .instances-table",
}


def furnish(client: Client) -> None:
    """Makes an environment with something of everything in it."""
    edits = [
        {"op": "put-service", "name": "api", "ports": [{"name": "http", "number": 8080}]},
        *({"op": "put-instance", "service": "api", "id": f"a{number}", "region": "eu"} for number in (1, 2, 3)),
        {"op": "put-service", "name": "web", "ports": [{"name": "http", "number": 80}]},
        {"op": "put-instance", "service": "web", "id": "w1", "region": "eu", "state": "starting"},
        {"op": "put-service", "name": "worker"},
        {"op": "put-instance", "service": "worker", "id": "k1", "state": "draining"},
        {"op": "put-service", "name": "postgres", "ports": [{"name": "postgres", "number": 5432}]},
        {"op": "put-instance", "service": "postgres", "id": "p1"},
        {"op": "put-record", "name": "db", "type": "CNAME", "ttl": 60, "values": ["postgres.railway.internal."]},
        {"op": "put-record", "name": "cache", "type": "A", "ttl": 300, "values": ["10.1.2.3", "10.1.2.4"]},
    ]
    client.put("environments", "shop", body={})
    client.post("environments", "shop", "batch", body={"edits": edits})
    client.put("environments", "shop", "services", "web", body={"rename": "storefront", "overlap_seconds": 86_400})
    body = {"ttl": 30, "values": ["postgres.railway.internal."]}
    client.put("environments", "shop", "records", "db", "CNAME", body=body)
    for environment in ("production", "staging", "preview-214"):
        client.put("environments", environment, body={})


def show(page: Page, platform: Platform, screen: str) -> None:
    """Opens ``screen``, and waits until all of it is shown."""
    page.goto(platform.url + SCREENS[screen])
    page.locator(SHOWN[screen]).first.wait_for()
    page.locator("#live:has-text('live')").wait_for()
