"""The API's description: valid, complete, and fit for generators of clients."""

from __future__ import annotations

import ast
import copy
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from admin.http.problems import KINDS, UNEXPECTED
from admin.openapi import describe
from admin.routes import BATCH_EDITS, PATH_PARAMETERS, ROUTES
from tests.admin.api import NO_TOKEN, Api


@pytest.fixture(scope="module")
def document() -> Any:
    return json.loads(describe(ROUTES, PATH_PARAMETERS))


def test_valid(document: Any) -> None:
    assert document["openapi"].startswith("3.1")
    OpenAPIV31SpecValidator(document).validate()


async def test_served_without_a_token(api: Api, document: Any) -> None:
    served = await api.get("/openapi.json", token=NO_TOKEN)
    assert (served.status, served.body) == (200, document)


def test_every_route_is_in_it_under_a_unique_name(document: Any) -> None:
    operations = [(path, method) for path, methods in document["paths"].items() for method in methods]
    assert operations == [(route.path, route.method.lower()) for route in grouped()]
    names = [operation["operationId"] for methods in document["paths"].values() for operation in methods.values()]
    assert len(set(names)) == len(ROUTES)


def grouped() -> list[Any]:
    """The routes in their order, those of one path together."""
    paths = list(dict.fromkeys(route.path for route in ROUTES))
    return sorted(ROUTES, key=lambda route: paths.index(route.path))


def test_every_problem_is_declared_somewhere(document: Any) -> None:
    declared = {
        int(status)
        for methods in document["paths"].values()
        for operation in methods.values()
        for status in operation["responses"]
    }
    elsewhere = {405}  # of methods that are not in the document
    assert {kind.status for kind in (*KINDS.values(), UNEXPECTED)} - elsewhere <= declared


def test_everything_in_it_is_described(document: Any) -> None:
    assert list(undescribed(document)) == []


def undescribed(document: Any) -> Iterator[str]:
    for name, schema in document["components"]["schemas"].items():
        if not schema.get("description"):
            yield name
        yield from (f"{name}.{key}" for key, one in schema.get("properties", {}).items() if not one.get("description"))
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            place = f"{method} {path}"
            yield from (f"{place} ?{one['name']}" for one in operation["parameters"] if not one.get("description"))
            for status, response in operation["responses"].items():
                headers = response.get("headers", {})
                yield from (f"{place} {status} {key}" for key, one in headers.items() if not one.get("description"))


def test_a_field_without_a_sentence_would_be_found(document: Any) -> None:
    spoilt = copy.deepcopy(document)
    del spoilt["components"]["schemas"]["HostView"]["properties"]["live"]["description"]
    del spoilt["paths"]["/v1/hosts"]["get"]["parameters"][0]["description"]
    assert list(undescribed(spoilt)) == ["HostView.live", "get /v1/hosts ?limit"]


def test_bodies_are_strict(document: Any) -> None:
    for name in (
        "EnvironmentBody",
        "ServiceBody",
        "InstanceBody",
        "BatchBody",
        "TokenBody",
        "RecordBody",
        "PortBody",
        "PutService",
        "PeerBody",
        "PutPeer",
        "DeletePeer",
        "HostBody",
    ):
        assert document["components"]["schemas"][name]["additionalProperties"] is False


def test_a_batch_edit_has_the_fields_of_the_body_and_keys_of_the_path(document: Any) -> None:
    schemas = document["components"]["schemas"]
    former = {"name"}  # the former spelling of `rename`, which only the PUT has
    for noun, keys in (
        ("Service", {"name"}), ("Instance", {"service", "id"}), ("Record", {"name", "type"}), ("Peer", {"id"}),
    ):  # fmt: skip
        body, edit = (schemas[name]["properties"] for name in (f"{noun}Body", f"Put{noun}"))
        assert edit.keys() == {"op"} | keys | (body.keys() - former)
        for name in body.keys() - former:
            assert edit[name] == body[name]
    mapping = schemas["BatchBody"]["properties"]["edits"]["items"]["discriminator"]["mapping"]
    assert len(mapping) == len(BATCH_EDITS)
    assert set(mapping) == set(schemas["BatchResult"]["properties"]["op"]["enum"])


def test_a_generator_makes_a_client_of_it(document: Any, tmp_path: Path) -> None:
    source, config, client = tmp_path / "openapi.json", tmp_path / "config.yaml", tmp_path / "client"
    source.write_text(json.dumps(document))
    config.write_text("post_hooks: []\n")  # they would format, with tools that may not be there
    command = [sys.executable, "-m", "openapi_python_client", "generate", "--fail-on-warning", "--meta", "none"]
    paths = ["--path", str(source), "--config", str(config), "--output-path", str(client)]
    done = subprocess.run([*command, *paths], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    modules = list((client / "api").rglob("*.py"))
    for module in modules:
        ast.parse(module.read_text())
    assert len([module for module in modules if module.name != "__init__.py"]) == len(ROUTES)
