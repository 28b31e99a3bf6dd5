"""Domain names (RFC 1035 §3.1, RFC 4343) and the labels that users choose."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from functools import lru_cache
from typing import NewType

from zones.errors import Invalid

EnvironmentId = NewType("EnvironmentId", str)

MAX_LABEL = 63  # RFC 1035 §3.1: the length octet has six bits
MAX_NAME = 255  # RFC 1035 §3.1: octets on the wire, the root's zero included
LABELS_KNOWN = 1 << 14  # of each kind, a MB or two: what thousands of instances and services share is checked once

_LDH = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)")
_ENVIRONMENT = re.compile(r"[a-z0-9-]{1,63}")
_PORT = re.compile(r"(?!-)(?=.*[a-z])[a-z0-9-]{1,15}(?<!-)")

# Names that the zone itself has, or that are kept for it.
RESERVED_SERVICES = frozenset({"ns", "all", "region", "health", "internal", "internal-health", "railway", "up"})
RESERVED_PREFIX = "railway-internal"
# getaddrinfo(3) takes each of these for an IPv4 address (inet_aton(3)) and asks nobody: "123" is 0.0.0.123.
_IPV4_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]+")
RESERVED_INSTANCES = frozenset({"all", "region"})  # the zone has all.<service> and <region>.region.<service>
ONE = "one"  # the zone has one.<service>, unless an older instance has that id


class Name(bytes):
    """An absolute domain name: its uncompressed wire form in lower case.

    Equality and hashing are those of ``bytes``, so two names are equal exactly if RFC 4343 says so. Lower-casing ASCII
    does not change the length octets: they are below 64, and ``A`` is 65.
    """

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Name:
        r"""The name that ``text`` writes in presentation form (``\.`` and ``\DDD`` escapes, RFC 1035 §5.1).

        The final dot may be left out: the text always means an absolute name. Raises `Invalid`.
        """
        return cls.of(_split(text))

    @classmethod
    def of(cls, labels: Iterable[bytes]) -> Name:
        """The name made of ``labels``, leftmost first, without the root. Raises `Invalid`."""
        wire = bytearray()
        for label in labels:
            if not label:
                raise Invalid("a name has an empty label: remove the extra dot")
            if len(label) > MAX_LABEL:
                raise Invalid(f"the label {_present(label[:20])}… has {len(label)} octets: use at most {MAX_LABEL}")
            wire.append(len(label))
            wire += label.lower()
        wire.append(0)
        if len(wire) > MAX_NAME:
            raise Invalid(f"the name has {len(wire)} octets: use at most {MAX_NAME}")
        return cls(wire)

    @property
    def labels(self) -> tuple[bytes, ...]:
        """The labels, leftmost first, without the root."""
        labels = []
        offset = 0
        while length := self[offset]:
            labels.append(bytes(self[offset + 1 : offset + 1 + length]))
            offset += 1 + length
        return tuple(labels)

    @property
    def parent(self) -> Name:
        """The name without its leftmost label; the root is its own parent."""
        return Name(self[1 + self[0] :]) if self[0] else self

    def child(self, *labels: str) -> Name:
        """The name with ``labels`` put before it. Raises `Invalid`."""
        return Name.of((*(label.encode() for label in labels), *self.labels))

    def below(self, apex: Name) -> tuple[bytes, ...] | None:
        """The labels before ``apex``: ``()`` for the apex itself, None for a name that is not below ``apex``."""
        if not self.endswith(apex):
            return None
        labels, offset, end = [], 0, len(self) - len(apex)
        while offset < end:
            following = offset + 1 + self[offset]
            labels.append(self[offset + 1 : following])
            offset = following
        return tuple(labels) if offset == end else None  # else the octets of ``apex`` begin within a label

    def __str__(self) -> str:
        return "".join(_present(label) + "." for label in self.labels) or "."

    def __repr__(self) -> str:
        return f"Name({str(self)!r})"


ROOT = Name(b"\0")


def check_environment_id(text: str) -> EnvironmentId:
    """``text`` as an environment's id. Raises `Invalid`."""
    if not _ENVIRONMENT.fullmatch(text):
        raise Invalid(f"{text!r} is not an environment id: use 1 to 63 of a-z, 0-9 and '-'", field="environment")
    return EnvironmentId(text)


@lru_cache(maxsize=LABELS_KNOWN)
def check_service_name(text: str) -> None:
    """Raises `Invalid` unless ``text`` can name a service: one lower-case LDH label that is not reserved."""
    if not _LDH.fullmatch(text):
        raise Invalid(
            f"{text!r} is not a service name: use 1 to 63 of a-z, 0-9 and '-', with no '-' at either end"
            + _suggest_name(text),
            field="name",
        )
    if text in RESERVED_SERVICES or text.startswith(RESERVED_PREFIX):
        raise Invalid(f"{text!r} is reserved by the platform: choose another name", field="name")


def check_new_service_name(text: str) -> None:
    """Raises `Invalid` unless a service can be given the name ``text`` now. Older ones keep names that it refuses."""
    check_service_name(text)
    if _IPV4_NUMBER.fullmatch(text):
        raise Invalid(
            f"{text!r} is not a name for a service: programs take a number for an IPv4 address, and never look it up;"
            f" use 'n{text}', for instance",
            field="name",
        )


def check_new_instance_id(text: str) -> None:
    """Raises `Invalid` unless an instance can be given the id ``text`` now. Older ones keep ids that it refuses."""
    check_instance_id(text)
    if text == ONE:
        raise Invalid(f"{text!r} is reserved below a service: choose another instance id", field="id")


def check_instance_id(text: str) -> None:
    """Raises `Invalid` unless ``text`` can name an instance: one lower-case LDH label that is not reserved."""
    _check_label(text, "an instance id", "id")
    if text in RESERVED_INSTANCES:
        raise Invalid(f"{text!r} is reserved below a service: choose another instance id", field="id")


def check_instance_ids(ids: Collection[str]) -> None:
    """Raises `Invalid` unless each of ``ids`` can name an instance.

    A service is checked whole with each change of one of its instances, so this takes little time where all are well.
    """
    if all(map(_LDH.fullmatch, ids)) and RESERVED_INSTANCES.isdisjoint(ids):
        return
    for id_ in ids:
        check_instance_id(id_)


@lru_cache(maxsize=LABELS_KNOWN)
def check_region(text: str) -> str:
    """``text`` if it can name a region: it becomes a label of ``<region>.region.<service>``. Raises `Invalid`.

    What it returns for equal texts is one object, so that thousands of instances in a region keep its name once.
    """
    _check_label(text, "a region", "region")
    return text


@lru_cache(maxsize=LABELS_KNOWN)
def check_host_id(text: str, field: str = "host") -> str:
    """``text`` if it can name a host: one lower-case LDH label. Raises `Invalid`.

    What it returns for equal texts is one object, so that thousands of instances on a host keep its id once.
    """
    _check_label(text, "a host id", field)
    return text


def check_peer_id(text: str) -> None:
    """Raises `Invalid` unless ``text`` can name an external peer: one lower-case LDH label."""
    _check_label(text, "a peer id", "id")


@lru_cache(maxsize=LABELS_KNOWN)
def check_port_name(text: str) -> None:
    """Raises `Invalid` unless ``text`` is a service name in the sense of RFC 6335 §5.1."""
    if not _PORT.fullmatch(text) or "--" in text:
        raise Invalid(
            f"{text!r} is not a port name: use 1 to 15 of a-z, 0-9 and single '-', with at least one letter"
            " (RFC 6335 §5.1)",
            field="ports.name",
        )


def _suggest_name(text: str) -> str:
    """What to do about ``text``, which is not the name of a service, where that is likely to be a habit."""
    usual = text.lower().replace("_", "-")
    if usual == text or not _LDH.fullmatch(usual):
        return ""
    alias = f", and set a CNAME record {text.lower()!r} if clients ask for that" if "_" in text else ""
    return f": name it {usual!r}{alias}"


def _check_label(text: str, what: str, field: str) -> None:
    if not _LDH.fullmatch(text):
        raise Invalid(
            f"{text!r} cannot be {what}: use 1 to 63 of a-z, 0-9 and '-', with no '-' at either end", field=field
        )


_ESCAPED = re.compile(rb"\\(?:(\d{3})|(.))", re.DOTALL)


def _split(text: str) -> list[bytes]:
    if text in ("", "."):
        return []
    try:
        raw = text.encode("ascii")
    except UnicodeEncodeError:
        raise Invalid(f"{text!r} has a letter outside ASCII: write the name in its xn-- form (RFC 5890)") from None
    labels = [b""]
    position = 0
    while position < len(raw):
        octet = raw[position : position + 1]
        if octet == b"\\":
            escape = _ESCAPED.match(raw, position)
            if escape is None or (escape[1] and int(escape[1]) > 255):
                raise Invalid(rf"{text!r} has a broken escape: write \\DDD with DDD up to 255, or \\ and a character")
            labels[-1] += bytes([int(escape[1])]) if escape[1] else escape[2]
            position = escape.end()
            continue
        if octet == b".":
            labels.append(b"")
        else:
            labels[-1] += octet
        position += 1
    if not labels[-1]:
        labels.pop()
    return labels


def _present(label: bytes) -> str:
    return "".join(
        f"\\{chr(octet)}" if octet in b'.\\"();@$' else chr(octet) if 33 <= octet <= 126 else f"\\{octet:03d}"
        for octet in label
    )
