"""Signing in to the console: who gets in, by what, for how long; and that nobody else makes a page do something."""

from __future__ import annotations

import pytest

from admin.auth.signins import LINK_SECONDS, SIGN_IN_SECONDS
from admin.auth.tokens import digest, make_token
from admin.http.limits import Limits
from store.signins import SignIn
from store.store import Store
from tests.admin.api import ROOT, Api
from tests.admin.console.browser import OVERVIEW, Browser


async def test_the_root_token_opens_the_overview_and_signing_out_closes_it(api: Api, browser: Browser) -> None:
    assert (await browser.get(OVERVIEW)).headers["Location"] == f"/?to={OVERVIEW}"
    signed = await browser.sign_in(ROOT)
    assert (signed.status, signed.headers["Location"]) == (303, OVERVIEW)
    shown = await browser.get(OVERVIEW)
    assert shown.status == 200
    assert "Environments" in shown.text
    kept = dict(browser.cookies)
    assert (await browser.post("/console/sign-out")).headers["HX-Redirect"] == "/"
    assert (await browser.get(OVERVIEW)).status == 303
    # Not only the browser has forgotten it.
    headers = {"Cookie": f"interlock={kept['interlock']}"}
    assert (await browser.send("GET", OVERVIEW, headers=headers)).status == 303


async def test_what_a_wrong_token_is_told(browser: Browser) -> None:
    for token in ("", "guess", make_token()):
        shown = await browser.sign_in(token)
        assert shown.status == 401
        assert "not valid" in shown.text
        assert browser.cookies == {}


@pytest.mark.parametrize(("headers", "is_secure"), [({}, False), ({"X-Forwarded-Proto": "https"}, True)])
async def test_the_cookie_is_for_this_server_alone(browser: Browser, headers: dict[str, str], is_secure: bool) -> None:
    signed = await browser.send("POST", "/console/sign-in", {"token": ROOT}, headers)
    cookie = signed.headers["Set-Cookie"]
    name, attributes = cookie.split("=")[0], set(cookie.split("; ")[1:])
    assert {"HttpOnly", "Path=/", "SameSite=Strict", f"Max-Age={SIGN_IN_SECONDS}"} <= attributes
    assert ("Secure" in attributes) == is_secure
    assert name == ("__Host-interlock" if is_secure else "interlock")


async def test_a_signed_in_browser_is_not_let_into_the_api_nor_a_token_into_the_console(
    api: Api, root: Browser
) -> None:
    assert (await root.get("/v1/environments")).status == 401
    assert (await api.get(OVERVIEW)).status == 200  # the client follows to the sign-in
    assert "Sign in" in (await api.get(OVERVIEW)).body


async def test_a_sign_in_ends_with_its_token(production: Api, browser: Browser) -> None:
    token = await production.make_token()
    assert (await browser.sign_in(token)).headers["Location"] == "/console/environments/production"
    assert (await browser.get("/")).status == 303
    (id_,) = [one["id"] for one in (await production.get("/v1/environments/production/tokens")).body["tokens"]]
    await production.delete(f"/v1/environments/production/tokens/{id_}")
    assert (await browser.get("/")).status == 200  # the sign-in


async def test_a_sign_in_ends_by_itself(api: Api, browser: Browser) -> None:
    await browser.sign_in(ROOT)
    cookie = browser.cookies["interlock"]
    found = await api.store.sign_ins.find(digest(cookie))
    assert found is not None
    now = await api.store.clock.milliseconds()
    assert 0 < found.until - now <= SIGN_IN_SECONDS * 1000
    await api.store.sign_ins.add(digest(cookie), SignIn(found.token, found.proof, now), 60)
    assert (await browser.get(OVERVIEW)).status == 303


async def test_every_control_plane_on_the_store_knows_it(api: Api, browser: Browser) -> None:
    await browser.sign_in(ROOT)
    async with Api(api.store) as other, Browser(other) as elsewhere:
        headers = {"Cookie": f"interlock={browser.cookies['interlock']}"}
        assert (await elsewhere.send("GET", OVERVIEW, headers=headers)).status == 200


async def test_the_store_holds_neither_the_cookie_nor_the_token(api: Api, browser: Browser) -> None:
    await browser.sign_in(ROOT)
    written = b""
    async with api.store.connection.client() as redis:
        async for key in redis.scan_iter(match=f"{api.store.connection.keys.prefix}*"):
            written += key + (await redis.get(key) if await redis.type(key) == b"string" else b"")
    assert written
    for secret in (browser.cookies["interlock"], ROOT, digest(ROOT)):
        assert secret.encode() not in written


async def test_attempts_are_limited_as_those_of_the_api(store: Store) -> None:
    async with Api(store, Limits(anonymous_rate=0.001, anonymous_burst=5)) as api, Browser(api) as browser:
        statuses = [(await browser.sign_in("guess")).status for _ in range(7)]
        assert statuses == [401] * 5 + [429] * 2
        assert (await browser.sign_in(make_token())).status == 429
        assert (await browser.sign_in(ROOT)).status == 303  # who has the token is not locked out by others


async def test_a_made_up_cookie_asks_the_store_no_more_often_than_a_made_up_token(store: Store) -> None:
    async with Api(store, Limits(anonymous_rate=0.001, anonymous_burst=5)) as api, Browser(api) as browser:
        made_up = [{"Cookie": f"interlock={make_token()}"} for _ in range(7)]
        statuses = [(await browser.send("GET", OVERVIEW, headers=headers)).status for headers in made_up]
        assert statuses == [303] * 5 + [429] * 2


# A link


async def test_a_link_signs_in_once(api: Api, browser: Browser) -> None:
    made = await api.post("/v1/sign-in-links", None)
    assert made.status == 201
    path = made.body["path"]
    looked = await browser.get(path)  # as a preview of a chat does
    assert looked.status == 200
    link = path.rpartition("/")[2]
    assert (await browser.send("POST", "/console/enter", {"link": link})).headers["Location"] == OVERVIEW
    assert (await browser.get(OVERVIEW)).status == 200
    async with Browser(api) as other:
        refused = await other.send("POST", "/console/enter", {"link": link})
        assert refused.status == 401
        assert "was used" in refused.text


async def test_a_link_of_a_tenant_signs_in_a_tenant(production: Api, browser: Browser) -> None:
    made = await production.post("/v1/sign-in-links", None, token=await production.make_token())
    link = made.body["path"].rpartition("/")[2]
    entered = await browser.send("POST", "/console/enter", {"link": link})
    assert entered.headers["Location"] == "/console/environments/production"
    assert (await browser.get(OVERVIEW)).status == 403


async def test_a_link_signs_in_whoever_has_signed_in_already(production: Api, browser: Browser) -> None:
    await browser.sign_in(await production.make_token())
    link = (await production.post("/v1/sign-in-links", None)).body["path"].rpartition("/")[2]
    refused = await browser.send("POST", "/console/enter", {"link": link}, {"Origin": "http://evil.example"})
    assert refused.status == 403
    entered = await browser.send("POST", "/console/enter", {"link": link})
    assert (entered.status, entered.headers["Location"]) == (303, OVERVIEW)
    signed = await browser.sign_in(ROOT)  # in a page from before another one signed in
    assert (signed.status, signed.headers["Location"]) == (303, OVERVIEW)


async def test_a_link_is_valid_for_minutes(api: Api) -> None:
    link = (await api.post("/v1/sign-in-links", None)).body["path"].rpartition("/")[2]
    async with api.store.connection.client() as redis:
        left = await redis.ttl(api.store.connection.keys.sign_in_link(digest(link)))
    assert 0 < left <= LINK_SECONDS


# What other sites can do


async def test_pages_say_what_a_browser_may_do_with_them(root: Browser) -> None:
    for path in ("/", OVERVIEW, f"{OVERVIEW}/doctor", "/console/enter/x", "/console/events"):
        headers = (await root.get(path)).headers
        policy = dict(part.strip().split(" ", 1) for part in headers["Content-Security-Policy"].split(";"))
        assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == policy["form-action"] == "'self'"
        assert headers["X-Frame-Options"] == "DENY"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
        assert headers["Referrer-Policy"] == "same-origin"
        assert headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-Csrf-Token": "0" * 64},
        {"X-Csrf-Token": "right", "Origin": "http://evil.example"},
        {"X-Csrf-Token": "right", "Origin": "null"},
        {"X-Csrf-Token": "right", "Sec-Fetch-Site": "cross-site"},
        {"X-Csrf-Token": "right", "Sec-Fetch-Site": "same-site"},
    ],
)
async def test_no_other_site_makes_a_change(api: Api, root: Browser, headers: dict[str, str]) -> None:
    if headers.get("X-Csrf-Token") == "right":
        headers = {**headers, "X-Csrf-Token": root.csrf}
    refused = await root.send("POST", "/console/environments", {"environment": "made"}, headers)
    assert refused.status == 403
    assert (await api.get("/v1/environments/made")).status == 404
    done = await root.send("POST", "/console/environments", {"environment": "made"}, {"X-Csrf-Token": root.csrf})
    assert done.status == 303
    assert (await api.get("/v1/environments/made")).status == 200


@pytest.mark.parametrize("headers", [{"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}])
async def test_no_other_site_signs_somebody_in(browser: Browser, headers: dict[str, str]) -> None:
    assert (await browser.send("POST", "/console/sign-in", {"token": ROOT}, headers)).status == 403
    assert browser.cookies == {}


async def test_the_sign_in_leads_back_to_the_page(api: Api, browser: Browser) -> None:
    page = "/console/try?environment=a&name=api"
    start = (await browser.get(page)).headers["Location"]
    assert start == "/?to=/console/try%3Fenvironment%3Da%26name%3Dapi"
    shown = await browser.get(start)
    assert 'name="to" value="/console/try?environment=a&amp;name=api"' in shown.text
    assert (await browser.send("POST", "/console/sign-in", {"token": ROOT, "to": page})).headers["Location"] == page
    browser.session.cookie_jar.clear()
    headers = {"HX-Current-URL": f"http://127.0.0.1:{api.port}{page}"}
    refused = await browser.send("GET", f"{OVERVIEW}/doctor", headers=headers, is_part=True)
    assert (refused.status, refused.headers["HX-Redirect"]) == (401, start)
    for hostile in ("http://[", "x", "//evil.example/console"):
        refused = await browser.send("GET", f"{OVERVIEW}/doctor", headers={"HX-Current-URL": hostile}, is_part=True)
        assert (refused.status, refused.headers["HX-Redirect"]) == (401, "/")


@pytest.mark.parametrize("to", ["//evil.example", "https://evil.example", "/\\evil.example", "/console/\\x", "/v1"])
async def test_the_sign_in_leads_nowhere_else(browser: Browser, to: str) -> None:
    signed = await browser.send("POST", "/console/sign-in", {"token": ROOT, "to": to})
    assert signed.headers["Location"] == OVERVIEW
