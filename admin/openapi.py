"""The API's description (OpenAPI 3.1), made from the table of routes and the types that the routes name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from ipaddress import IPv6Network
from typing import Any

import msgspec
from aiohttp import web

from admin.auth.access import Access
from admin.descriptions import describe_properties, structs_in
from admin.http.problems import MEDIA_TYPE, Problem
from admin.http.route import Route
from zones.addresses import Address

VERSION = "1"  # of the API, as in the prefix of its paths
DOCUMENT: web.AppKey[bytes] = web.AppKey("openapi document", bytes)

Schema = Mapping[str, Any]
"""A JSON schema."""

_REFERENCE = "#/components/schemas/{name}"
_TEXT: Schema = {"type": "string"}
_JSON = "application/json"

_HEADERS: dict[str, dict[str, Any]] = {
    "ETag": {
        "description": "the environment's revision and the digest of its document, in quotes",
        "schema": {"type": "string"},
    },
    "Retry-After": {"description": "seconds", "schema": {"type": "integer"}},
    "WWW-Authenticate": {"description": "that a bearer token is wanted (RFC 6750)", "schema": {"type": "string"}},
}
_HEADERS_OF = {401: ("WWW-Authenticate",), 429: ("Retry-After",)}


async def get_openapi(request: web.Request) -> web.Response:
    """Give the API's description."""
    return web.Response(body=request.app[DOCUMENT], content_type=_JSON)


def describe(routes: tuple[Route, ...], path_parameters: Mapping[str, Schema]) -> bytes:
    """The description of ``routes``, as JSON; ``path_parameters`` has a schema for each parameter in their paths."""
    schemas, components = _schemas(routes)
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schemas, path_parameters)
    document = {
        "openapi": "3.1.0",
        "info": {
            "title": "Interlock admin API",
            "version": VERSION,
            "description": "Private networking for environments: the names under railway.internal and their addresses.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"bearer": []}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    }
    return msgspec.json.encode(document)


def _schemas(routes: Iterable[Route]) -> tuple[dict[Any, dict[str, Any]], dict[str, Any]]:
    types: list[Any] = [Problem]
    for route in routes:
        types += [route.body, *route.replies.values()]
    structs = [type_ for type_ in dict.fromkeys(types) if isinstance(type_, type) and issubclass(type_, msgspec.Struct)]
    found, components = msgspec.json.schema_components(structs, schema_hook=_schema_of, ref_template=_REFERENCE)
    for type_ in structs_in(structs):
        describe_properties(type_, components.get(type_.__name__, {}))
    return dict(zip(structs, found, strict=True)), components


def _schema_of(type_: type) -> dict[str, Any]:
    if type_ is Address:
        return {"type": "string", "format": "ipv6"}
    if type_ is IPv6Network:
        return {"type": "string", "examples": ["fd12:5b1e:90c4::/48"]}
    raise NotImplementedError(type_)


def _operation(
    route: Route, schemas: dict[Any, dict[str, Any]], path_parameters: Mapping[str, Schema]
) -> dict[str, Any]:
    parameters = [*_path_parameters(route, path_parameters), *_query_parameters(route), *_header_parameters(route)]
    operation: dict[str, Any] = {
        "operationId": route.name,
        "summary": route.summary,
        "tags": [_tag(route)],
        "description": f"Token: {route.access.value}.",
        "parameters": parameters,
        "responses": _responses(route, schemas),
    }
    if route.access is Access.OPEN:
        operation["security"] = []
    if route.body:
        operation["requestBody"] = {"required": True, "content": {_JSON: {"schema": schemas[route.body]}}}
    return operation


def _tag(route: Route) -> str:
    return (route.handler.__module__).rpartition(".")[2].replace("_", " ")


def _path_parameters(route: Route, schemas: Mapping[str, Schema]) -> list[dict[str, Any]]:
    return [_parameter(name, "path", True, schemas[name]) for name in re.findall(r"{(\w+)}", route.path)]


def _query_parameters(route: Route) -> list[dict[str, Any]]:
    if route.query is None:
        return []
    _, components = msgspec.json.schema_components([route.query])
    schema = components[route.query.__name__]
    describe_properties(route.query, schema)
    required = schema.get("required", [])
    return [_parameter(name, "query", name in required, property_) for name, property_ in schema["properties"].items()]


def _parameter(name: str, place: str, required: bool, schema: Mapping[str, Any]) -> dict[str, Any]:
    """The parameter ``name`` with what ``schema`` says, whose description is that of the parameter."""
    rest = {key: value for key, value in schema.items() if key != "description"}
    described = {"description": schema["description"]} if "description" in schema else {}
    return {"name": name, "in": place, "required": required, **described, "schema": rest}


def _header_parameters(route: Route) -> list[dict[str, Any]]:
    if 304 in route.refusals:
        return [_condition("If-None-Match", "the entity tag that the reader has; 304 if the environment still has it")]
    if 412 in route.refusals:
        condition = _condition("If-Match", "write only if the environment still has this ETag")
        only_new = _condition("If-None-Match", "create, never change", {"pattern": r"^\*$"})
        return [condition, only_new] if route.method == "PUT" else [condition]
    return []


def _condition(name: str, description: str, rule: dict[str, Any] | None = None) -> dict[str, Any]:
    schema = {"type": "string", **(rule or {})}
    return {"name": name, "in": "header", "required": False, "description": description, "schema": schema}


def _responses(route: Route, schemas: dict[Any, dict[str, Any]]) -> dict[str, Any]:
    responses = {status: _reply(route, status, type_, schemas) for status, type_ in route.replies.items()}
    for status in _refusals(route):
        content = {MEDIA_TYPE: {"schema": schemas[Problem]}}
        if status in route.replies:
            responses[status]["content"].update(content)
        elif status == 304:
            responses[status] = _response(status, None, ("ETag",))
        else:
            responses[status] = _response(status, content, _HEADERS_OF.get(status, ()))
    return {str(status): responses[status] for status in sorted(responses)}


def _reply(route: Route, status: int, type_: Any, schemas: dict[Any, dict[str, Any]]) -> dict[str, Any]:
    if type_ is None:
        return _response(status, None)
    if type_ is str:
        return _response(status, {"text/plain": {"schema": _TEXT}})
    schema = schemas.get(type_, {"type": "object"})
    if route.is_stream:
        return _response(status, {"application/x-ndjson": {"schema": schema}, "text/event-stream": {"schema": _TEXT}})
    has_revision = {304, 412} & route.refusals
    return _response(status, {_JSON: {"schema": schema}}, ("ETag",) if has_revision else ())


def _response(status: int, content: dict[str, Any] | None, headers: tuple[str, ...] = ()) -> dict[str, Any]:
    response: dict[str, Any] = {"description": HTTPStatus(status).phrase}
    if headers:
        response["headers"] = {name: _HEADERS[name] for name in headers}
    if content:
        response["content"] = content
    return response


def _refusals(route: Route) -> list[int]:
    statuses = {500, *route.refusals}
    if route.access is not Access.OPEN:
        statuses |= {401, 403, 429, 503}
    if route.query is not None or "{" in route.path:
        statuses.add(400)
    if route.body is not None:
        statuses.add(415)
    if route.body is not None or route.is_write:  # one that takes no body says so
        statuses |= {400, 408, 413}
    return sorted(statuses)
