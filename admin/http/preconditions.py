"""Conditional requests (RFC 9110 §13): everything inside of an environment has the entity tag of the environment.

It is made of the revision and the digest of the document, as ``"7-9f86d081884c7d659a2feaa0c55ad015"`` at revision 7. A
revision alone would not do: after older data were restored its number comes again, for another document.

`admin.http.replies` writes the entity tag; here the tags that clients send are compared with it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from admin.errors import Malformed, PreconditionFailed
from zones import document
from zones.model import Environment
from zones.placement import NONE_AWAY, HostsAway

ANY = "*"
_AWAY = "-away-"  # stands in a tag before a digest of the hosts that are down, if an instance that is shown is on one

_TAG = r'(?:W/)?"[\x21\x23-\x7e]*"'
_TAGS = re.compile(rf"\s*{_TAG}(?:\s*,\s*{_TAG})*\s*")


@dataclass(frozen=True, slots=True)
class Preconditions:
    """What a client demands of the state that its write finds."""

    if_match: frozenset[str] | str | None = None
    """The entity tags in ``If-Match``, without their quotes, one of which must be the environment's; or `ANY`, which
    demands that what is written exists; None demands nothing."""
    create_only: bool = False
    """Whether what is written must not exist yet (``If-None-Match: *``)."""

    def check(self, environment: Environment | None, exists: bool) -> None:
        """Raises `PreconditionFailed` unless ``environment`` meets all demands.

        ``exists`` says whether the part of it that the client writes is there already.
        """
        if self.create_only and exists:
            raise PreconditionFailed("it exists already, and 'If-None-Match: *' is to create only: leave it out")
        if self.if_match is None:
            return
        if environment is None:
            raise PreconditionFailed("the environment does not exist, so no If-Match can hold: leave it out to create")
        if self.if_match == ANY and not exists:
            raise PreconditionFailed("it does not exist, and 'If-Match: *' is to change only: leave it out to create")
        if self.if_match != ANY and not self._names(environment):
            raise PreconditionFailed(
                f"the environment is at revision {environment.revision}, and its ETag is not the one in If-Match (which"
                " takes an ETag as it was given, not a revision): read it again and decide anew"
            )

    def _names(self, environment: Environment) -> bool:
        """Whether one of the entity tags is that of ``environment``. The revision comes first: it costs nothing."""
        assert isinstance(self.if_match, frozenset)
        near = [tag for tag in self.if_match if tag.startswith(f"{environment.revision}-")]
        return bool(near) and entity_tag(environment) in {tag.partition(_AWAY)[0] for tag in near}

    def check_damaged(self) -> None:
        """Raises `PreconditionFailed` unless all demands are met by an environment that is damaged in the store."""
        if self.create_only:
            raise PreconditionFailed("it exists already, and 'If-None-Match: *' is to create only: leave it out")
        if self.if_match not in (None, ANY):
            raise PreconditionFailed(
                "the environment is damaged in the store, so no ETag in If-Match can be its: leave it out"
            )


def read_preconditions(headers: Mapping[str, str]) -> Preconditions:
    """The preconditions in ``headers`` of a write. Raises `Malformed` for one that cannot be read; none is ignored."""
    if_none_match = headers.get("If-None-Match")
    if if_none_match is not None and if_none_match.strip() != ANY:
        raise Malformed("a write takes 'If-None-Match: *' only, which creates and never changes", field="If-None-Match")
    tags = _read_tags(headers, "If-Match")
    # A weak tag never matches here (RFC 9110 §13.1.1, a strong comparison).
    if_match = tags if tags is None or tags == ANY else frozenset(tag[1:-1] for tag in tags if not tag.startswith("W/"))
    return Preconditions(if_match, create_only=if_none_match is not None)


def is_unchanged(headers: Mapping[str, str], etag: str) -> bool:
    """Whether the reader that sent ``headers`` has the reply with ``etag`` already.

    This is a weak comparison (RFC 9110 §13.1.2).
    """
    tags = _read_tags(headers, "If-None-Match")
    return tags == ANY or (tags is not None and etag in {tag.removeprefix("W/") for tag in tags})


def entity_tag(environment: Environment, away: HostsAway = NONE_AWAY) -> str:
    """The entity tag of ``environment``, without quotes, as it is shown while the hosts in ``away`` are.

    A host that goes or comes back changes what is shown, and no revision: as a precondition, the tag is the same.
    """
    tag = f"{environment.revision}-{document.digest_of(environment)}"
    return tag + (f"{_AWAY}{document.digest(','.join(sorted(away.down)).encode())}" if away else "")


def _read_tags(headers: Mapping[str, str], name: str) -> frozenset[str] | str | None:
    text = headers.get(name)
    if text is None or text.strip() == ANY:
        return text and ANY
    if not _TAGS.fullmatch(text):
        raise Malformed(
            f"""{name} is not '*' or entity tags: send an ETag as it was given, with its quotes""", field=name
        )
    return frozenset(re.findall(_TAG, text))
