"""Types of JSON fields that several resources have, and what turns the model's values into such fields.

The JSON schema of a field is for readers of the API's description. The model checks the rule itself, and its messages
say more.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated, Literal

from msgspec import Meta, Struct

from zones.errors import Invalid

LABEL = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
ENVIRONMENT_ID = "^[a-z0-9-]{1,63}$"

Label = Annotated[str, Meta(extra_json_schema={"pattern": LABEL})]
EnvironmentName = Annotated[str, Meta(extra_json_schema={"pattern": ENVIRONMENT_ID})]
Revision = Annotated[int, Meta(ge=1, description="the environment's, which grows by one with every commit")]


class ConfirmQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """The confirmation of a write that deletes very much, and is refused without it."""

    confirm: Annotated[
        Literal["withdrawal"] | None, Meta(description="write even if that deletes most names of the environment")
    ] = None


def time_of(milliseconds: int) -> datetime:
    """``milliseconds`` since 1970 (Unix time) as a date and time, which JSON writes as in RFC 3339."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


@contextmanager
def at_field(field: str) -> Iterator[None]:
    """Names ``field`` in an `Invalid` that is raised inside of the ``with``.

    The model names its own fields; a client needs the name of the field that it sent.
    """
    try:
        yield
    except Invalid as error:
        raise Invalid(str(error), field=field) from None
