"""Conditional requests (RFC 9110 §13): the revision of an environment is the entity tag of all that is in it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from admin.errors import Malformed, PreconditionFailed
from zones.model import Environment

ANY = "*"

_TAG = r'(?:W/)?"[\x21\x23-\x7e]*"'
_TAGS = re.compile(rf"\s*{_TAG}(?:\s*,\s*{_TAG})*\s*")


def entity_tag(revision: int) -> str:
    """The entity tag of an environment, and of all that is in it, at ``revision``."""
    return f'"{revision}"'


@dataclass(frozen=True, slots=True)
class Preconditions:
    """What a write demands of the state it finds. ``if_match`` holds entity tags or is `ANY`; None demands nothing."""

    if_match: frozenset[str] | str | None = None
    create_only: bool = False

    def check(self, environment: Environment | None, exists: bool) -> None:
        """Raises `PreconditionFailed` unless all is so; ``exists`` tells of the part that is to be written."""
        if self.create_only and exists:
            raise PreconditionFailed("it exists already, and 'If-None-Match: *' is to create only: leave it out")
        if self.if_match is None:
            return
        if environment is None:
            raise PreconditionFailed("the environment does not exist, so no If-Match can hold: leave it out to create")
        if self.if_match == ANY and not exists:
            raise PreconditionFailed("it does not exist, and 'If-Match: *' is to change only: leave it out to create")
        if self.if_match != ANY and entity_tag(environment.revision) not in self.if_match:
            raise PreconditionFailed(
                f"the environment is at revision {environment.revision}, not at the one in If-Match:"
                " read it again and decide anew"
            )


def read_preconditions(headers: Mapping[str, str]) -> Preconditions:
    """What ``headers`` demand of a write. Raises `Malformed`: a condition that is not understood is not ignored."""
    if_none_match = headers.get("If-None-Match")
    if if_none_match is not None and if_none_match.strip() != ANY:
        raise Malformed("a write takes 'If-None-Match: *' only, which creates and never changes", field="If-None-Match")
    return Preconditions(_read_tags(headers, "If-Match"), create_only=if_none_match is not None)


def is_unchanged(headers: Mapping[str, str], revision: int) -> bool:
    """Whether a reader that sent ``headers`` has ``revision`` already (RFC 9110 §13.1.2, a weak comparison)."""
    tags = _read_tags(headers, "If-None-Match")
    return tags == ANY or (tags is not None and entity_tag(revision) in {tag.removeprefix("W/") for tag in tags})


def _read_tags(headers: Mapping[str, str], name: str) -> frozenset[str] | str | None:
    text = headers.get(name)
    if text is None or text.strip() == ANY:
        return text and ANY
    if not _TAGS.fullmatch(text):
        raise Malformed(f"""{name} is not '*' or entity tags: write the revision in quotes, as in '"7"'""", field=name)
    return frozenset(re.findall(_TAG, text))
