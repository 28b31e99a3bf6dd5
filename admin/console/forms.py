"""What the forms of the console send, read as strictly as the bodies of the API."""

from __future__ import annotations

from typing import TypeVar

from aiohttp import web

from admin.errors import Malformed, UnsupportedMediaType
from admin.http.inputs import as_shape, read_text

T = TypeVar("T")

FORM = "application/x-www-form-urlencoded"


async def read_form(request: web.Request, shape: type[T]) -> T:
    """The fields of the form that ``request`` sends, as the type ``shape``; a form writes all of them as text.

    Raises `UnsupportedMediaType`, `admin.errors.SlowBody`, `Malformed`, or `zones.errors.Invalid` with the field.
    """
    if request.content_type != FORM:
        raise UnsupportedMediaType("this takes what a form of the console sends")
    await read_text(request)  # in time
    fields: dict[str, str] = {}
    for name, value in (await request.post()).items():
        if name in fields or not isinstance(value, str):
            raise Malformed(f"the field {name!r} is given twice: give it once", field=name)
        fields[name] = value
    return as_shape(fields, shape)
