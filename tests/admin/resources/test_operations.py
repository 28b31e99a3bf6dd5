"""Health and metrics: beside the API and alone; and what the API counts."""

from __future__ import annotations

import pytest
from aiohttp.test_utils import TestClient, TestServer

from admin.resources.operations import Probe, operations_app
from tests.admin.api import NO_TOKEN, Api, E

READY = {"store": Probe(ok=True), "zones": Probe(ok=True)}
NOT_READY = {
    "store": Probe(ok=False, reason="store unix:///s:\nNo such file"),
    "zones": Probe(ok=True),
    "agent": Probe(ok=False),
}

CASES = [
    (READY, "/livez", 200, "ok\n"),
    (READY, "/readyz", 200, "ok\n"),
    (READY, "/readyz?verbose", 200, "[+]store ok\n[+]zones ok\n"),
    (READY, "/readyz?verbose=1", 200, "[+]store ok\n[+]zones ok\n"),
    (NOT_READY, "/livez", 200, "ok\n"),
    (NOT_READY, "/readyz", 503, "not ready: store, agent\n"),
    (NOT_READY, "/readyz?verbose", 503, "[-]store store unix:///s: No such file\n[+]zones ok\n[-]agent not ready\n"),
]


@pytest.mark.parametrize(("probes", "path", "status", "text"), CASES)
async def test_alone(probes: dict[str, Probe], path: str, status: int, text: str) -> None:
    app = operations_app(readiness=lambda: probes, metrics=lambda: (b"up 1\n", "text/plain; version=0.0.4"))
    async with TestClient(TestServer(app)) as client:
        response = await client.get(path)
        assert (response.status, await response.text()) == (status, text)
        assert response.headers["Cache-Control"] == "no-store"
        assert (await client.get("/v1/environments")).content_type == "application/problem+json"
        metrics = await client.get("/metrics")
        assert (await metrics.read(), metrics.headers["Content-Type"]) == (b"up 1\n", "text/plain; version=0.0.4")


async def test_beside_the_api_without_a_token(api: Api) -> None:
    api.probes = NOT_READY
    ready = await api.get("/readyz?verbose", token=NO_TOKEN)
    assert (ready.status, ready.body) == (503, CASES[-1][3])
    assert (await api.get("/livez", token=NO_TOKEN)).body == "ok\n"
    assert (await api.get("/metrics", token=NO_TOKEN)).body == "up 1\n"


@pytest.mark.parametrize("header", ["Forwarded", "X-Forwarded-For", "Via"])
async def test_strangers_do_not_learn_why(api: Api, header: str) -> None:
    api.probes = NOT_READY
    passed_on = {header: "for=192.0.2.1"}
    ready = await api.get("/readyz?verbose", token=NO_TOKEN, headers=passed_on)
    assert (ready.status, ready.body) == (503, "[-]store not ready\n[+]zones ok\n[-]agent not ready\n")
    assert (await api.get("/readyz?verbose", headers=passed_on)).body == CASES[-1][3]


async def test_a_probe_that_raises_is_a_500_without_its_traceback() -> None:
    def fail() -> dict[str, Probe]:
        raise RuntimeError("an inner secret")

    app = operations_app(readiness=fail, metrics=lambda: (b"", "text/plain"))
    async with TestClient(TestServer(app)) as client:
        response = await client.get("/readyz")
        assert response.status == 500
        assert "secret" not in await response.text()


async def test_what_the_api_counts(production: Api) -> None:
    await production.get(f"{E}/services/api")
    await production.get(f"{E}/services/nosuch")
    await production.get("/made/up")
    await production.send("PROPFIND", E)
    route = "/v1/environments/{environment}/services/{service}"
    requests = production.counts.requests
    assert requests["PUT", route, 201] == 1
    assert requests["GET", route, 200] == 1
    assert requests["GET", route, 404] == 1
    assert requests["GET", "unmatched", 404] == 1
    assert requests["other", "unmatched", 405] == 1
    assert production.counts.commits == 4
