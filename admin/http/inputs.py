"""What clients send, read strictly: an unknown field, a wrong type or a broken rule is refused, and the field named."""

from __future__ import annotations

import asyncio
import re
import zlib
from typing import TypeVar

import msgspec
from aiohttp import hdrs, web

from admin.errors import Malformed, SlowBody, UnsupportedMediaType
from admin.http.context import CONTEXT
from admin.http.route import Route
from zones.errors import Invalid, ZonesError

T = TypeVar("T")

_WINDOWS = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}  # zlib's, for each encoding (RFC 9110 §8.4.1)
_PATH = re.compile(r"(?P<message>.*?)(?: - at `\$\.?(?P<path>.*)`)?", re.DOTALL)
_NAMED = re.compile(r"(?:unknown|missing required) field `(.*)`", re.DOTALL)


async def read_body(request: web.Request, shape: type[T]) -> T:
    """The body of ``request``, which must be JSON of the type ``shape``.

    Raises `UnsupportedMediaType`, `SlowBody`, `Malformed`, or `Invalid` with the place of the field in the body.
    """
    # A browser sends a "simple" request of any web page without asking the server first. None of those has this type.
    if request.content_type != "application/json":
        raise UnsupportedMediaType("send JSON, with the header 'Content-Type: application/json'")
    body = _unpack(request, await read_text(request))
    try:
        return msgspec.json.decode(body, type=shape)
    except msgspec.ValidationError as error:
        raise _as_invalid(error) from None
    except (ValueError, RecursionError) as error:  # not JSON, not UTF-8, or nested too deeply
        raise Malformed(f"the body is not JSON in UTF-8: {error}") from None


def _unpack(request: web.Request, body: bytes) -> bytes:
    """``body`` without the encoding that it was sent in, which must not make it larger than a body may be."""
    encoding = request.headers.get(hdrs.CONTENT_ENCODING, "identity").strip().lower()
    if encoding in ("", "identity"):
        return body
    if encoding not in _WINDOWS:
        raise UnsupportedMediaType(f"the body is in the encoding {encoding!r:.40}: send it as it is, or use gzip")
    most = request.app[CONTEXT].limits.body_bytes
    unpacker = zlib.decompressobj(_WINDOWS[encoding])
    try:
        unpacked = unpacker.decompress(body, most + 1)
    except zlib.error as error:
        raise Malformed(f"the body is not what its encoding says: {error}") from None
    if len(unpacked) > most:
        raise web.HTTPRequestEntityTooLarge(most, len(unpacked))
    if not unpacker.eof or unpacker.unused_data:
        raise Malformed("the body is not what its encoding says: it does not end where it should")
    return unpacked


async def refuse_inputs(request: web.Request, route: Route) -> None:
    """Raises `Malformed` if a write has parameters or a body, and ``route`` takes none.

    A client that sends ``?dry_run=true`` to a deletion believes that it deletes nothing.
    """
    if route.query is None:
        for name in request.query:
            raise Malformed(f"this takes no parameter {name!r}: leave it out", field=name)
    if route.body is None and (await read_text(request)).strip() not in (b"", b"{}"):
        raise Malformed("this takes no body: send none")


def read_query(request: web.Request, shape: type[T]) -> T:
    """The query parameters of ``request`` as the type ``shape``; a query writes numbers as text.

    Raises `Malformed` or `Invalid`, with the name of the parameter.
    """
    given = dict(request.query)
    for name in given:
        if len(request.query.getall(name)) > 1:
            raise Malformed(f"the parameter {name!r} is given twice: give it once", field=name)
    return as_shape(given, shape)


def as_shape(given: dict[str, str], shape: type[T]) -> T:
    """``given``, in which all values are text, as the type ``shape``. Raises `Invalid` with the name of the field."""
    try:
        return msgspec.convert(given, shape, strict=False)
    except msgspec.ValidationError as error:
        raise _as_invalid(error) from None


async def read_text(request: web.Request) -> bytes:
    """The body of ``request`` as it is. Raises `SlowBody` and `Malformed`."""
    try:
        async with asyncio.timeout(request.app[CONTEXT].limits.body_seconds):
            return await request.read()
    except TimeoutError:
        raise SlowBody("the body did not arrive in time: send it at once") from None
    except (web.RequestPayloadError, ConnectionError) as error:
        raise Malformed(f"the body did not arrive as it was announced: {' '.join(str(error).split())}") from None


def _as_invalid(error: msgspec.ValidationError) -> Invalid:
    # msgspec's message ends with the path of the object at fault. It lacks the last field where a rule of the model
    # is broken, or a field is unknown or missing: the model's error or the message itself names that one.
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
