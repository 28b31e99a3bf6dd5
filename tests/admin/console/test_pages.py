"""The pages: who may open which, that what they change is what the API changes, and what the first look costs."""

from __future__ import annotations

import asyncio
import re
import time
from typing import Any

import pytest

from admin.auth.access import Access
from admin.console.routes import ROUTES
from admin.http.replies import HEADERS
from admin.http.route import Route
from tests.admin.api import Api, E, enrol_host, make_host, make_key
from tests.admin.console.browser import OVERVIEW, Browser
from tests.waiting import until_true
from tests.worlds import compiled, lease_of
from zones.addresses import Platform
from zones.edits import PutInstance, PutService, apply
from zones.model import Environment
from zones.names import EnvironmentId

PAGES = tuple(route for route in ROUTES if route.show_problem)
HERE = "/console/environments/production"
PARTS = {"service": "api", "peer": "laptop", "link": "x"}
SECRET = "only-of-staging"

FORMS: dict[str, dict[str, str]] = {
    "post_environment": {"environment": "made"},
    "post_service": {"name": "made"},
    "post_ports": {"ports": "http:80"},
    "post_rename": {"rename": "made", "overlap": "60"},
    "post_service_deletion": {"was": "-"},
    "post_record": {"name": "made", "type": "A", "ttl": "60", "values": "10.0.0.1"},
    "post_record_deletion": {"name": "db", "type": "CNAME", "was": "-"},
    "post_peer": {"peer": "made", "public_key": make_key(3)},
    "post_peer_deletion": {"peer": "laptop", "was": "-"},
    "post_undo": {"revision": "1"},
}
QUERIES = {
    "get_record_editor": "?name=db&type=CNAME",
    "get_service_editor": "?action=ports",
    "get_events": "?topics=environment/{environment}",
    "get_log": "?environment={environment}",
    "get_stream": "?environment={environment}",
    "get_answer": "?environment={environment}&name=api",
    "get_deploys": "?environment={environment}",
}


def path_of(route: Route, environment: str) -> str:
    path = re.sub(r"{(\w+)}", lambda match: {**PARTS, "environment": environment}[match[1]], route.path)
    return path + QUERIES.get(route.name, "").format(environment=environment)


@pytest.mark.parametrize("route", PAGES, ids=lambda route: route.name)
async def test_a_token_of_an_environment_finds_nothing_of_another(
    production: Api, browser: Browser, route: Route
) -> None:
    for name in ("api", SECRET):
        await production.put("/v1/environments/staging", {})
        await production.put(f"/v1/environments/staging/services/{name}", {})
    before = (await production.get("/v1/environments/staging")).headers["ETag"]
    await browser.sign_in(await production.make_token())
    for environment in ("staging", "nosuch"):
        shown = await browser.send(
            route.method, path_of(route, environment), FORMS.get(route.name), {"X-Csrf-Token": browser.csrf}
        )
        assert SECRET not in shown.text
        if route.access is Access.INSIDE or route.is_stream or route.name in ("get_log", "get_answer", "get_deploys"):
            assert shown.status == 403, "whether it exists or not"
        if route.access is Access.ROOT:
            assert shown.status == 403
    assert (await production.get("/v1/environments/staging")).headers["ETag"] == before


@pytest.mark.parametrize("route", [route for route in PAGES if route.is_write], ids=lambda route: route.name)
async def test_a_token_that_only_reads_changes_nothing(production: Api, browser: Browser, route: Route) -> None:
    made = await production.post(f"{E}/tokens", {"name": "reads", "read_only": True})
    await browser.sign_in(made.body["token"])
    before = (await production.get(E)).headers["ETag"]
    shown = await browser.post(path_of(route, "production"), FORMS.get(route.name))
    if route.access is not Access.OPEN:
        assert shown.status == 403
    assert (await production.get(E)).headers["ETag"] == before


@pytest.mark.parametrize(
    "route", [route for route in PAGES if route.is_write and not route.begins_sign_in], ids=lambda route: route.name
)
async def test_nothing_is_changed_without_what_a_page_knows(production: Api, root: Browser, route: Route) -> None:
    before = (await production.get(E)).headers["ETag"]
    shown = await root.send(route.method, path_of(route, "production"), FORMS.get(route.name))
    assert shown.status == 403
    assert (await production.get(E)).headers["ETag"] == before


async def test_what_a_page_says_is_never_kept_by_caches_and_its_files_are(root: Browser) -> None:
    shown = await root.get(OVERVIEW)
    assert shown.headers["Cache-Control"] == HEADERS["Cache-Control"]
    files = re.findall(r'(?:href|src)="(/console/assets/[^"]+)"', shown.text)
    assert len(files) >= 5
    for file in files:
        kept = await root.get(file)
        assert kept.status == 200
        assert "immutable" in kept.headers["Cache-Control"]
    assert (await root.get("/console/assets/0000000000000000/console.css")).status == 404
    assert (await root.get("/console/assets/0000000000000000/../../app.py")).status == 404


# What is changed


async def test_a_record_is_committed_as_it_was_reviewed(production: Api, root: Browser) -> None:
    form = {"name": "db", "type": "CNAME", "ttl": "30", "values": "web.railway.internal."}
    reviewed = await root.post(f"{HERE}/records", form)
    assert (reviewed.status, "<del>" in reviewed.text) == (200, True)
    was = re.search(r'name="was" value="([^"]+)"', reviewed.text)
    assert was
    assert (await production.get(f"{E}/records/db/CNAME")).body["ttl"] == 60
    done = await root.post(f"{HERE}/records", {**form, "step": "commit", "was": was[1]})
    assert (done.status, done.headers["HX-Trigger"]) == (200, "committed")
    assert (await production.get(f"{E}/records/db/CNAME")).body["ttl"] == 30
    again = await root.post(f"{HERE}/records", {**form, "ttl": "31", "step": "commit", "was": was[1]})
    assert again.status == 412
    assert "db 30 CNAME web.railway.internal." in again.text


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ({"type": "NS"}, "cannot be set"),
        ({"ttl": "0"}, "ttl 0 is not"),
        ({"ttl": "x"}, "ttl"),
        ({"values": ""}, "1 to 256 values"),
        ({"values": "no address"}, "values[0]"),
        ({"name": "api.db.api"}, "belongs to the service"),
    ],
)
async def test_a_record_that_breaks_a_rule(production: Api, root: Browser, form: dict[str, str], said: str) -> None:
    whole = {"name": "cache", "type": "A", "ttl": "60", "values": "10.0.0.1", "step": "commit", "was": "-", **form}
    refused = await root.post(f"{HERE}/records", whole)
    assert refused.status in (400, 409)
    assert said in refused.text
    assert refused.headers["HX-Retarget"] == "#problem"


async def test_what_exists_is_not_made_again(production: Api, root: Browser) -> None:
    for path, form, headers in (
        ("/console/environments", {"environment": "production"}, {"If-None-Match": "*"}),
        (f"{HERE}/services", {"name": "api"}, {}),
    ):
        refused = await root.post(path, form, headers)
        assert refused.status == 409
        assert "already: give the new one another name" in refused.text


async def test_the_doctor_is_asked_once_for_all_who_look(api: Api, root: Browser) -> None:
    api.may_diagnose.clear()
    looking = [asyncio.create_task(root.get(f"{OVERVIEW}/doctor")) for _ in range(3)]
    assert await until_true(lambda: is_diagnosing(api))
    await root.get(f"{OVERVIEW}/environments")  # was sent after those of the doctor
    api.may_diagnose.set()
    for shown in await asyncio.gather(*looking):
        assert (shown.status, "All is well" in shown.text) == (200, True)
    assert api.diagnosed == 1


async def is_diagnosing(api: Api) -> bool:
    return api.diagnosed > 0


async def test_a_mesh_without_hosts_says_whether_there_are_any(api: Api, root: Browser) -> None:
    assert "No host is registered." in (await root.get("/console/mesh")).text
    await api.store.hosts.register(make_host(1))
    for path in ("/console/mesh", "/console/mesh/drawing"):
        shown = (await root.get(path)).text
        assert "No host is registered." not in shown
        assert "This control plane knows no host. 1 is registered" in shown


async def test_what_is_no_page_leads_on(root: Browser) -> None:
    for path in ("/console/nosuch", "/console/environments", "/console/mesh/nosuch"):
        shown = await root.get(path)
        assert (shown.status, "the console has no such page" in shown.text) == (404, True)
    for path in ("/console", "/console/"):
        assert (await root.get(path)).headers["Location"] == "/"
    assert (await root.post("/console/nosuch")).status == 405


async def test_what_is_deleted_is_what_was_shown(production: Api, root: Browser) -> None:
    await production.store.hosts.register(make_host(1))
    await enrol_host(production.store, "h1")
    await production.store.leases.renew(lease_of("h1"), 60_000)
    assert (await production.put(f"{E}/peers/laptop", {"public_key": make_key(8)})).status == 201
    shown = await root.get(f"{HERE}/peers/laptop?action=delete")
    was = re.search(r'name="was" value="([^"]+)"', shown.text)
    assert was
    body = {"public_key": make_key(9)}
    assert (await production.put(f"{E}/peers/laptop", body)).status == 200
    refused = await root.post(f"{HERE}/peers/delete", {"peer": "laptop", "was": was[1]})
    assert refused.status == 412
    assert (await production.get(f"{E}/peers/laptop")).status == 200


async def test_a_service_with_most_of_the_names_is_deleted(api: Api, root: Browser) -> None:
    await api.put("/v1/environments/large", {})
    edits: list[dict[str, str]] = [{"op": "put-service", "name": "api"}]
    edits += [{"op": "put-instance", "service": "api", "id": f"a{number}"} for number in range(60)]
    await api.post("/v1/environments/large/batch", {"edits": edits})
    path = "/console/environments/large/services/api"
    shown = await root.get(f"{path}/editor?action=delete")
    was, action = re.search(r'name="was" value="([^"]+)"', shown.text), re.search(r'hx-post="([^"]+)"', shown.text)
    assert was
    assert action
    assert (await root.post(f"{path}/delete", {"was": was[1]})).status == 409
    assert (await root.post(action[1], {"was": was[1]})).status == 200


async def test_a_service_that_does_not_exist_is_named(production: Api, root: Browser) -> None:
    shown = await root.get(f"{HERE}?service=nosuch")
    assert "There is no service “nosuch”." in shown.text
    assert "0 services found" in shown.text


async def test_who_has_changed_what_is_shown_and_undone(production: Api, root: Browser) -> None:
    await production.put(f"{E}/records/db/CNAME", {"ttl": 5, "values": ["api.railway.internal."]})
    revision = (await production.get(E)).body["revision"]
    shown = await root.get(HERE)
    assert "60 s api.railway.internal." in shown.text
    done = await root.post(f"{HERE}/undo", {"revision": str(revision)})
    assert done.status == 200
    assert (await production.get(f"{E}/records/db/CNAME")).body["ttl"] == 60
    again = await root.post(f"{HERE}/undo", {"revision": str(revision)})
    assert again.status == 412
    assert "has been changed since" in again.text


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PUT", "services/api", {"ports": []}),
        ("PUT", "services/api", {"rename": "backend"}),
        ("PUT", "services/web", {}),
        ("PUT", "records/made/A", {"ttl": 5, "values": ["10.0.0.1"]}),
        ("DELETE", "records/db/CNAME", None),
        ("PUT", "services/api/instances/a1", {"state": "draining", "region": "us"}),
        ("PUT", "services/api/instances/a2", {}),
    ],
)
async def test_what_can_be_undone(production: Api, root: Browser, method: str, path: str, body: Any) -> None:
    keys = ("services", "records", "peers")
    before = (await production.get(E)).body
    assert (await production.send(method, f"{E}/{path}", body)).status in (200, 201, 204)
    revision = (await production.get(E)).body["revision"]
    assert (await root.post(f"{HERE}/undo", {"revision": str(revision)})).status == 200
    after = (await production.get(E)).body
    for one in (*before["services"], *after["services"]):
        one["former_names"] = []  # the undoing of a rename is one, too: the name in between is answered for a while
    assert [after[key] for key in keys] == [before[key] for key in keys]


async def test_what_was_deleted_with_its_address_is_not_undone(production: Api, root: Browser) -> None:
    await production.delete(f"{E}/services/api/instances/a1")
    revision = (await production.get(E)).body["revision"]
    refused = await root.post(f"{HERE}/undo", {"revision": str(revision)})
    assert refused.status == 409
    assert "never given again" in refused.text


async def test_a_tenant_does_not_undo_what_was_done_to_the_environment_itself(
    production: Api, browser: Browser
) -> None:
    await production.put(E, {"enabled": False})
    revision = (await production.get(E)).body["revision"]
    await browser.sign_in(await production.make_token())
    assert (await browser.post(f"{HERE}/undo", {"revision": str(revision)})).status == 403
    assert (await production.get(E)).body["enabled"] is False


async def test_an_environment_that_is_deleted_takes_its_history_along(production: Api) -> None:
    id_ = EnvironmentId("production")
    assert await production.store.history.read(id_)
    await production.delete(E)
    assert await until_true(lambda: is_empty(production, id_))


async def is_empty(api: Api, id_: EnvironmentId) -> bool:
    return not await api.store.history.read(id_)


# What the first look costs


async def test_the_first_look_at_a_large_platform(api: Api, root: Browser) -> None:
    for number in range(1_000):
        id_ = EnvironmentId(f"environment-{number:04}")
        edits = [PutService(f"service-{one}") for one in range(10)]
        edits += [PutInstance(f"service-{one}", f"i{two}") for one in range(10) for two in range(2)]  # type: ignore[misc]
        network = Platform().environment_network(number + 1)
        api.console.state.publish(compiled(apply(Environment(id_, network, 1), edits, 0)))
    api.console.state.loaded()
    began = time.process_time()
    shown = await root.get(OVERVIEW)
    took = time.process_time() - began
    print(f"the first look: {took * 1000:.0f} ms of processor time, {len(shown.text) / 1000:.0f} kB")
    assert "10\u202f000" in shown.text
    assert "20\u202f000" in shown.text
    assert took < 0.3  # seconds, of server and browser together; asyncio's debug mode makes it slower
    assert len(shown.text.encode()) < 200_000
    began = time.process_time()
    found = await root.get(f"{OVERVIEW}/environments?q=service-7")
    assert time.process_time() - began < 0.3
    assert len(found.text.encode()) < 200_000
