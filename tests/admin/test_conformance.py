"""The API against its own description: schemathesis sends requests that a person would not think of.

Every reply must be one that the description declares, in status, content type and schema, and none a fault of the
server; a request that breaks the description must be refused, and one that needs a token must fail without it.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from admin.http.limits import Limits
from admin.routes import ROUTES
from store.store import Store
from tests.admin.api import ROOT, Api, enrol_host, make_host
from tests.waiting import scaled
from tests.worlds import lease_of

SEED = "20240513"  # the same requests each time, so that a failure can be repeated
DEADLINE = scaled(900.0)  # seconds, on a machine that has much else to do; it takes ten on one that has not
REQUEST_DEADLINE = 60  # seconds
LEASE = int(DEADLINE * 1000)  # milliseconds
NO_LIMIT = Limits(rate=1e9, burst=1e9, anonymous_rate=1e9, anonymous_burst=1e9)

# Not all rules can be written in a schema (a CNAME stands alone), so a body that fits it may still be refused.
EXCEPT = "positive_data_acceptance"

# So few names that many requests are about something that exists.
NAMES = {
    "environment": ["production", "staging"], "service": ["api", "web"], "instance": ["a1", "a2"], "name": ["db"],
    "peer": ["laptop", "phone"], "host": ["h1", "h2"],
}  # fmt: skip


pytestmark = pytest.mark.timeout(DEADLINE + 60)


async def test_the_api_does_what_its_description_says(production: Api, tmp_path: Path) -> None:
    async with Api(production.store, NO_LIMIT) as api:
        await ask(tmp_path, f"http://127.0.0.1:{api.port}/openapi.json", "--max-examples", "8")
        assert_all_were_met(api, {200, 201, 204, 400, 401, 404, 405, 415})


async def test_with_names_that_exist(store: Store, tmp_path: Path) -> None:
    async with Api(store, NO_LIMIT) as api:
        description = tmp_path / "openapi.json"
        description.write_text(json.dumps(narrowed((await api.get("/openapi.json")).body)))
        for environment in NAMES["environment"]:
            await api.put(f"/v1/environments/{environment}", {})
        for number in (1, 2):
            await store.hosts.register(make_host(number))
            await enrol_host(store, f"h{number}")
        await store.leases.renew(lease_of("h1"), LEASE)
        options = ("--mode", "positive", "--phases", "fuzzing,stateful", "--max-examples", "40")
        not_deletion = ("--exclude-operation-id", "delete_environment")
        await ask(tmp_path, str(description), "--url", f"http://127.0.0.1:{api.port}", *options, *not_deletion)
        assert_all_were_met(api, {200, 201, 204, 400, 404, 409})


async def test_it_finds_a_reply_that_is_not_described(store: Store, tmp_path: Path) -> None:
    async with Api(store, NO_LIMIT) as api:
        document = (await api.get("/openapi.json")).body
        del document["paths"]["/v1/environments"]["get"]["responses"]["200"]
        description = tmp_path / "openapi.json"
        description.write_text(json.dumps(document))
        only = ("--include-operation-id", "list_environments", "--max-examples", "1")
        with pytest.raises(AssertionError, match="Undocumented status code"):
            await ask(tmp_path, str(description), "--url", f"http://127.0.0.1:{api.port}", *only)


async def ask(directory: Path, *arguments: str) -> None:
    """Runs schemathesis in ``directory`` with ``arguments``; fails with its report where it finds something."""
    program = shutil.which("st", path=str(Path(sys.executable).parent))
    assert program, "schemathesis is not installed: pip install 'interlock[test]'"
    # A stream has no end that schemathesis could wait for; `resources/test_lookups.py` has its tests.
    streams = [f"--exclude-operation-id={route.name}" for route in ROUTES if route.is_stream]
    options = ["--seed", SEED, "--exclude-checks", EXCEPT, "--header", f"Authorization: Bearer {ROOT}", "--no-color"]
    options += ["--request-timeout", str(REQUEST_DEADLINE)]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        program, "run", *arguments, *options, *streams, cwd=directory, stdout=pipe, stderr=asyncio.subprocess.STDOUT
    )
    try:
        async with asyncio.timeout(DEADLINE):
            report, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise
    assert process.returncode == 0, report.decode()


def narrowed(document: Any) -> Any:
    """``document`` with the names of `NAMES` only, and without conditions, which would seldom hold."""
    for methods in document["paths"].values():
        for operation in methods.values():
            parameters = operation["parameters"]
            for parameter in parameters:
                if parameter["name"] in NAMES and parameter["in"] == "path":
                    parameter["schema"] = {"enum": NAMES[parameter["name"]]}
            operation["parameters"] = [parameter for parameter in parameters if parameter["in"] != "header"]
    return document


def assert_all_were_met(api: Api, statuses: set[int]) -> None:
    """That the run went deep enough to mean something: ``api`` gave all of ``statuses``."""
    given = {status for _, _, status in api.counts.requests}
    assert statuses <= given, f"never met: {sorted(statuses - given)}"
    assert not [status for status in given if status >= 500]
