"""A look-up as it goes from a resolver by way of its host's agent to a control plane, and which ones are asked for.

Nobody sends look-ups unless a control plane has asked for them, which it does while somebody watches. They are JSON
objects with the fields of the lines of ``interlock tail --json``. What a resolver sends is checked and cut to a size
here, by the agent and again by the control plane: a name that somebody has queried may be anything.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import asdict, replace

from watcher.session.errors import SessionBroken

MOST_ANSWERS = 8  # of one look-up; a service of a thousand instances has as many
LONGEST_TEXT = 300  # characters of an answer, or of a reason; a TXT record may have 64 KiB
MOST_FILTERS = 16  # of one question; each costs the resolver some microseconds a query

Name = Annotated[str, Meta(max_length=1024)]  # 1,004 in presentation form, where each octet is written as \DDD
Word = Annotated[str, Meta(max_length=64)]


class Lookup(Struct, frozen=True, omit_defaults=True):
    """One query and its reply."""

    time: float
    """When the reply was sent, in Unix seconds."""
    environment: Word | None
    """The environment of the client. None: the client belongs to none."""
    source: Word
    """The address of the client."""
    name: Name
    """The queried name. Empty: the packet was no well-formed query."""
    type: Word
    """The queried type. Empty: the packet was no well-formed query."""
    rcode: Word
    """The rcode of the reply."""
    transport: Word = "udp"
    """``udp`` or ``tcp``."""
    answers: tuple[str, ...] = ()
    """The records of the answer section, in presentation form; the first of them, if there are many."""
    aliases: tuple[str, ...] = ()
    """The targets of the CNAMEs among them."""
    scope: Word = "environment"
    """``environment`` for names of the platform, ``external`` for forwarded ones, ``outside`` for such a client."""
    duration_ms: float = 0.0
    """From the arrival of the packet to its reply, in milliseconds."""
    edns: int | None = None
    """The UDP payload that the client takes, in octets. None: it sent no OPT record."""
    nodata: bool = False
    """Whether the name exists and has no records of the type (NODATA): the rcode is NOERROR all the same."""
    reason: str = ""
    """Why there is no good answer, or what is special about the one there is. Empty: there is nothing to say."""
    host: Word | None = None
    """The host whose resolver has answered; the control plane writes it. None: the resolver is in its own process."""

    @property
    def is_failure(self) -> bool:
        """Whether the look-up has failed: an error, or a name that does not exist."""
        return self.rcode in FAILURES


FAILURES = frozenset({"SERVFAIL", "REFUSED", "FORMERR", "NOTIMP", "BADVERS", "NXDOMAIN"})


class LookupFilter(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Which look-ups are asked for: those that fit every field that is set."""

    environment: Word | None = None
    """Only of clients of this environment. None: of all."""
    name: Name | None = None
    """Only names at or below this one. None: all."""
    type: Word | None = None
    """Only queries of this type. None: all."""
    rcode: Word | None = None
    """Only replies with this rcode. None: all."""
    source: Word | None = None
    """Only of the client with this address. None: of all."""
    failed: bool = False
    """Only look-ups that failed: errors, and names that do not exist; with ``nodata``, those as well."""
    nodata: bool = False
    """Only names that exist without records of the type (NODATA); with ``failed``, failures as well."""
    ok: bool = False
    """Only look-ups that are neither."""

    def wants(self, lookup: Lookup) -> bool:
        """Whether ``lookup`` is asked for."""
        return (
            (self.environment is None or lookup.environment == self.environment)
            and (self.name is None or _is_at_or_below(lookup.name, self.name))
            and (self.type is None or lookup.type == self.type.upper())
            and (self.rcode is None or lookup.rcode == self.rcode.upper())
            and (self.source is None or lookup.source == self.source)
            and (
                not (self.failed or self.nodata)
                or (self.failed and lookup.is_failure)
                or (self.nodata and lookup.nodata)
            )
            and not (self.ok and (lookup.is_failure or lookup.nodata))
        )


def combined(filters: tuple[LookupFilter, ...]) -> tuple[LookupFilter, ...]:
    """At most `MOST_FILTERS` filters that together want all that ``filters`` want, and perhaps more."""
    wanted = tuple(dict.fromkeys(filters))
    if LookupFilter() in wanted:
        return (LookupFilter(),)
    if len(wanted) > MOST_FILTERS:
        wanted = tuple(dict.fromkeys(LookupFilter(environment=one.environment) for one in wanted))
    return wanted if len(wanted) <= MOST_FILTERS and LookupFilter() not in wanted else (LookupFilter(),)


def decode_lookup(line: bytes) -> Lookup:
    """The look-up in ``line``, as a resolver has sent it, cut to a size. Raises `SessionBroken`."""
    try:
        return cut(_decoder.decode(line))
    except (ValueError, RecursionError) as error:  # msgspec's errors are
        raise SessionBroken(f"a resolver sent what is no look-up: {error}") from None


def fields_of(wanted: LookupFilter) -> dict[str, Any]:
    """The fields of ``wanted``, by name."""
    return asdict(wanted)


def lookup_of(fields: dict[str, Any]) -> Lookup:
    """The look-up with ``fields``, cut to a size. Raises `SessionBroken`."""
    try:
        return cut(msgspec.convert(fields, Lookup))
    except ValueError as error:
        raise SessionBroken(f"a resolver has what is no look-up: {error}") from None


def cut(lookup: Lookup) -> Lookup:
    """``lookup`` with as much of its answers, aliases and reason as one is shown."""
    is_small = len(lookup.answers) <= MOST_ANSWERS and len(lookup.aliases) <= MOST_ANSWERS
    if is_small and all(len(one) <= LONGEST_TEXT for one in (*lookup.answers, *lookup.aliases, lookup.reason)):
        return lookup
    return replace(
        lookup,
        answers=_few(lookup.answers),
        aliases=_few(lookup.aliases),
        reason=_short(lookup.reason),
    )


def _few(texts: tuple[str, ...]) -> tuple[str, ...]:
    more = len(texts) - MOST_ANSWERS
    return (*map(_short, texts[:MOST_ANSWERS]), *([f"and {more} more"] if more > 0 else []))


def _short(text: str) -> str:
    return text if len(text) <= LONGEST_TEXT else f"{text[: LONGEST_TEXT - 1]}…"


def _is_at_or_below(name: str, suffix: str) -> bool:
    name, suffix = name.rstrip(".").lower(), suffix.rstrip(".").lower()
    return not suffix or name == suffix or name.endswith("." + suffix)


_decoder = msgspec.json.Decoder(Lookup)
