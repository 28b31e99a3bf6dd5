"""The API's description as a page, on which calls can be tried with the rights of whoever has signed in.

A script sends them to the API itself; the middleware takes the cookie of the sign-in from a page that shows that it
knows the text made from it (`admin.http.cookies`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from admin.auth.access import Access, authorize
from admin.auth.actors import Actor, Tenant
from admin.console.rendering import show_page, show_problem
from admin.errors import Forbidden, Unauthenticated
from admin.http.context import ACTOR
from admin.http.route import Route
from admin.openapi import DOCUMENT

PAGE = "/console/api"
_JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of a call."""

    name: str
    """Its name."""
    place: str
    """``path``, ``query`` or ``header``."""
    required: bool
    """Whether the call needs it."""
    description: str
    """What it is."""
    value: str
    """What the field has at first."""
    choices: Sequence[str]
    """The values that it can have; none: any."""


@dataclass(frozen=True, slots=True)
class Operation:
    """A call."""

    id: str
    """Its name."""
    method: str
    """Its method."""
    path: str
    """Its path, with parameters in braces."""
    summary: str
    """What it does."""
    token: str
    """Which tokens may."""
    parameters: Sequence[Parameter]
    """Its parameters."""
    body: str
    """An example of its body; empty: it has none."""
    fields: Sequence[tuple[str, str]]
    """The fields of its body, and what each is."""
    statuses: Sequence[str]
    """The statuses that it may have."""
    is_allowed: bool
    """Whether whoever looks may call it."""


async def get_api(request: web.Request) -> web.Response:
    """Show all calls."""
    document, actor = json.loads(request.app[DOCUMENT]), request[ACTOR]
    tags: dict[str, list[Operation]] = {}
    for path, methods in document["paths"].items():
        for method, found in methods.items():
            operation = read_operation(method, path, found, document["components"]["schemas"], actor)
            tags.setdefault(found["tags"][0], []).append(operation)
    return show_page(request, "api.html", tags=tags)


def read_operation(
    method: str, path: str, found: Mapping[str, Any], schemas: Mapping[str, Any], actor: Actor
) -> Operation:
    """The call of ``method`` on ``path`` that ``found`` describes, for ``actor``."""
    own = actor.environment if isinstance(actor, Tenant) else ""
    body = _resolved(found.get("requestBody", {}).get("content", {}).get(_JSON, {}).get("schema", {}), schemas)
    token = found["description"].removeprefix("Token: ").rstrip(".")
    return Operation(
        id=found["operationId"],
        method=method.upper(),
        path=path,
        summary=found["summary"],
        token=token,
        parameters=[_parameter(one, own) for one in found["parameters"]],
        body=json.dumps(_example(body, schemas), indent=2) if body else "",
        fields=[(name, _resolved(one, schemas).get("description", "")) for name, one in _fields(body)],
        statuses=sorted(found["responses"]),
        is_allowed=_may(actor, method, path, token),
    )


def _may(actor: Actor, method: str, path: str, token: str) -> bool:
    access = next((one for one in Access if one.value == token), Access.OPEN)
    own = actor.environment if isinstance(actor, Tenant) else "any"
    try:
        authorize(actor, access, own if "{environment}" in path else None, is_write=method != "get")
    except (Forbidden, Unauthenticated):
        return False
    return True


def _parameter(found: Mapping[str, Any], own: str) -> Parameter:
    schema = found["schema"]
    examples = schema.get("examples") or []
    is_environment = found["name"] == "environment" and found["in"] == "path"
    first = own if is_environment else str(examples[0]) if found["required"] and examples else ""
    choices = [str(one) for one in schema.get("enum", ()) if one is not None]
    return Parameter(found["name"], found["in"], found["required"], found.get("description", ""), first, choices)


def _fields(schema: Mapping[str, Any]) -> Sequence[tuple[str, Any]]:
    return list(schema.get("properties", {}).items())


def _resolved(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> Mapping[str, Any]:
    reference = schema.get("$ref", "").rpartition("/")[2]
    return schemas.get(reference, {}) if reference else schema


def _example(schema: Mapping[str, Any], schemas: Mapping[str, Any], depth: int = 0) -> Any:
    """Something that fits ``schema``: what is required, with examples where there are some."""
    schema = _resolved(schema, schemas)
    for given in ("examples", "enum"):
        if schema.get(given):
            return schema[given][0]
    if "default" in schema:
        return schema["default"]
    for several in ("anyOf", "oneOf"):
        if schema.get(several):
            return _example(schema[several][0], schemas, depth + 1) if depth < 6 else None
    if schema.get("type") == "object":
        required = schema.get("required", ())
        return {name: _example(one, schemas, depth + 1) for name, one in _fields(schema) if name in required}
    by_type = {"array": [], "integer": schema.get("minimum", 1), "number": 1, "boolean": False, "string": ""}
    return by_type.get(schema.get("type", ""))


ROUTES = (Route("GET", PAGE, get_api, "Show the API", Access.ANY, {200: str}, show_problem=show_problem),)
