"""What clients send, read strictly: an unknown field, a wrong type or a broken rule is named and refused."""

from __future__ import annotations

import asyncio
import re
from typing import TypeVar, cast, get_args

import msgspec
from aiohttp import web

from admin.context import CONTEXT
from admin.errors import Malformed, SlowBody, UnsupportedMediaType
from zones.errors import Invalid, ZonesError
from zones.model import RecordType
from zones.names import EnvironmentId, check_environment_id

T = TypeVar("T")

RECORD_TYPES: tuple[str, ...] = get_args(RecordType)

_PATH = re.compile(r"(?P<message>.*?)(?: - at `\$\.?(?P<path>.*)`)?", re.DOTALL)
_NAMED = re.compile(r"(?:unknown|missing required) field `(.*)`", re.DOTALL)


async def read_body(request: web.Request, shape: type[T]) -> T:
    """The body of ``request``, which must be JSON of that ``shape``."""
    # So that no web page can have a browser send one without asking first (a "simple" request has no such type).
    if request.content_type != "application/json":
        raise UnsupportedMediaType("send JSON, with the header 'Content-Type: application/json'")
    try:
        async with asyncio.timeout(request.app[CONTEXT].limits.body_seconds):
            body = await request.read()
    except TimeoutError:
        raise SlowBody("the body did not arrive in time: send it at once") from None
    except (web.RequestPayloadError, ConnectionError) as error:
        raise Malformed(f"the body did not arrive as it was announced: {' '.join(str(error).split())}") from None
    try:
        return msgspec.json.decode(body, type=shape)
    except msgspec.ValidationError as error:
        raise _as_invalid(error) from None
    except (ValueError, RecursionError) as error:  # not JSON, not UTF-8, or nested beyond reason
        raise Malformed(f"the body is not JSON in UTF-8: {error}") from None


def read_query(request: web.Request, shape: type[T]) -> T:
    """The query parameters of ``request``, as ``shape``; numbers are written as text there."""
    given = dict(request.query)
    for name in given:
        if len(request.query.getall(name)) > 1:
            raise Malformed(f"the parameter {name!r} is given twice: give it once", field=name)
    try:
        return msgspec.convert(given, shape, strict=False)
    except msgspec.ValidationError as error:
        raise _as_invalid(error) from None


def environment_in(request: web.Request) -> EnvironmentId:
    """The environment in the path of ``request``. Raises `Invalid`."""
    return check_environment_id(request.match_info["environment"])


def record_type_in(request: web.Request) -> RecordType:
    """The record type in the path of ``request``. Raises `Invalid`."""
    text = request.match_info["type"]
    if text not in RECORD_TYPES:
        raise Invalid(f"{text!r} records cannot be set: use one of {', '.join(RECORD_TYPES)}", field="type")
    return cast("RecordType", text)


def _as_invalid(error: msgspec.ValidationError) -> Invalid:
    # msgspec ends its message with the path; a rule of the model's own knows the last field, which the path lacks.
    found = _PATH.fullmatch(str(error))
    assert found is not None
    message, path = found["message"], found["path"] or ""
    last = ""
    if isinstance(error.__cause__, ZonesError):
        last = error.__cause__.field.rpartition(".")[2]
    elif named := _NAMED.search(message):
        last = named[1]
    field = f"{path}.{last}" if path and last else path or last
    return Invalid(message[:1].lower() + message[1:], field=field)
