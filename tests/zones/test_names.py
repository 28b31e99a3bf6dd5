"""Domain names and the labels that users choose."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zones import names
from zones.errors import Invalid
from zones.names import ROOT, Name

LABELS = st.lists(st.binary(min_size=1, max_size=63), max_size=3)

PARSED = {
    # text: wire
    "": b"\0",
    ".": b"\0",
    "railway.internal": b"\x07railway\x08internal\0",
    "railway.internal.": b"\x07railway\x08internal\0",
    "API.Railway.Internal": b"\x03api\x07railway\x08internal\0",
    r"a\.b.c": b"\x03a.b\x01c\0",
    r"a\046b": b"\x03a.b\0",
    r"\065\000\255": b"\x03a\x00\xff\0",
    r"a\\b": b"\x03a\\b\0",
    r"end\.": b"\x04end.\0",
    "a b": b"\x03a b\0",
    "*._tcp": b"\x01*\x04_tcp\0",
    "x" * 63: b"\x3f" + b"x" * 63 + b"\0",
    ".".join(["x" * 63] * 3 + ["x" * 61]): (b"\x3f" + b"x" * 63) * 3 + b"\x3d" + b"x" * 61 + b"\0",
}

REFUSED_NAMES = {
    # text: what the message says
    "a..b": "empty label",
    ".a": "empty label",
    "..": "empty label",
    "x" * 64: "64 octets: use at most 63",
    ".".join(["x" * 63] * 3 + ["x" * 62]): "256 octets: use at most 255",
    "grün.internal": "xn-- form",
    "a\\": "broken escape",
    r"a\256": "broken escape",
}


@pytest.mark.parametrize(("text", "wire"), PARSED.items())
def test_a_name_is_parsed(text: str, wire: bytes) -> None:
    assert Name.parse(text) == wire


@pytest.mark.parametrize(("text", "fragment"), REFUSED_NAMES.items())
def test_what_is_not_a_name_is_refused(text: str, fragment: str) -> None:
    with pytest.raises(Invalid, match=fragment):
        Name.parse(text)


def test_a_digit_that_is_escaped_alone_stands_for_itself() -> None:
    assert Name.parse(r"a\25").labels == (b"a25",)


@given(LABELS)
def test_text_and_wire_say_the_same(labels: list[bytes]) -> None:
    name = Name.of(labels)
    assert Name.parse(str(name)) == name
    assert name.labels == tuple(label.lower() for label in labels)
    assert repr(name) == f"Name({str(name)!r})"


@given(st.text(max_size=300))
def test_any_text_is_a_name_or_is_refused(text: str) -> None:
    try:
        name = Name.parse(text)
    except Invalid:
        return
    assert len(name) <= 255
    assert Name.parse(str(name)) == name


@given(LABELS)
def test_case_makes_no_difference(labels: list[bytes]) -> None:
    # RFC 4343 §3: only the ASCII letters have case.
    upper = Name.of(label.upper() for label in labels)
    assert upper == Name.of(labels)
    assert hash(upper) == hash(Name.of(labels))


@given(LABELS, LABELS)
def test_below_gives_what_was_put_before(front: list[bytes], back: list[bytes]) -> None:
    name, apex = Name.of([*front, *back][:3]), Name.of(back[:3])
    labels = name.below(apex)
    assert labels is None or (*labels, *apex.labels) == name.labels
    if len(front) + len(back) <= 3:
        assert labels == tuple(label.lower() for label in front)


BELOW = [
    # name, apex, labels
    ("railway.internal", "railway.internal", ()),
    ("a.b.railway.internal", "railway.internal", (b"a", b"b")),
    ("xrailway.internal", "railway.internal", None),  # not on a label's border
    (r"x\.railway.internal", "railway.internal", None),
    ("internal", "railway.internal", None),
    ("a.example", ".", (b"a", b"example")),
    (".", ".", ()),
]


@pytest.mark.parametrize(("name", "apex", "labels"), BELOW)
def test_below(name: str, apex: str, labels: tuple[bytes, ...] | None) -> None:
    assert Name.parse(name).below(Name.parse(apex)) == labels


def test_parents_end_at_the_root() -> None:
    name = Name.parse("a.b")
    assert [name.parent, name.parent.parent, name.parent.parent.parent] == [Name.parse("b"), ROOT, ROOT]


def test_a_child_is_a_name_too() -> None:
    assert Name.parse("b.c").child("x", "a") == Name.parse("x.a.b.c")
    with pytest.raises(Invalid, match="at most 63"):
        Name.parse("b").child("x" * 64)


LDH_GOOD = ["a", "7", "api", "a-b", "a--b", "xn--grn-hoa", "0", "x" * 63]
LDH_BAD = ["", "-a", "a-", "A", "a_b", "a.b", "a b", "x" * 64, "ü", "a\n", "*", "_a", "٣"]
RESERVED_SERVICES = ["ns", "all", "region", "health", "internal", "internal-health", "railway", "up"]

GOOD: list[tuple[Callable[[str], object], list[str]]] = [
    (names.check_environment_id, [*LDH_GOOD, "-", "-a-", "production"]),
    (names.check_new_service_name, ["0x", "1a", "0xg", "x10", "1-2", "n123", "one", "10x"]),
    (names.check_service_name, ["123", "0x10"]),  # those that exist stay
    (names.check_instance_id, ["one", "123"]),
    (names.check_service_name, [*LDH_GOOD, "nsx", "uptime", "railways", "a-railway-internal", "instances"]),
    (names.check_instance_id, [*LDH_GOOD, "ns", "up", "internal", "railway-internal"]),
    (names.check_region, [*LDH_GOOD, "all", "region", "eu-west-1"]),
    (names.check_host_id, [*LDH_GOOD, "all"]),
    (names.check_port_name, ["http", "a", "1a", "x" * 15, "a-b", "grpc-2"]),
]
BAD: list[tuple[Callable[[str], object], str, str, list[str]]] = [
    (names.check_environment_id, "environment", "not an environment id", ["", "A", "a_b", "a.b", "x" * 64, "a\n"]),
    (names.check_service_name, "name", "not a service name", LDH_BAD),
    (names.check_service_name, "name", "name it 'api-v2'$", ["Api-V2", "API-v2"]),
    (names.check_service_name, "name", "name it 'my-db', and set a CNAME record 'my_db'", ["my_db", "My_Db"]),
    (
        names.check_new_service_name,
        "name",
        "take a number for an IPv4 address",
        ["123", "0", "0x10", "0xff", "08", "1"],
    ),
    (names.check_new_service_name, "name", "not a service name", LDH_BAD),
    (names.check_new_instance_id, "id", "reserved", ["one", "all", "region"]),
    (names.check_service_name, "name", "reserved", [*RESERVED_SERVICES, "railway-internal", "railway-internal-x"]),
    (names.check_instance_id, "id", "cannot be an instance id", LDH_BAD),
    (names.check_instance_id, "id", "reserved below a service", ["all", "region"]),
    (names.check_region, "region", "cannot be a region", LDH_BAD),
    (names.check_host_id, "host", "cannot be a host id", LDH_BAD),
    (names.check_port_name, "ports.name", "RFC 6335", [*LDH_BAD, "8080", "a--b", "x" * 16, "1-2"]),
]


@pytest.mark.parametrize(("check", "text"), [(check, text) for check, texts in GOOD for text in texts])
def test_a_good_label_is_taken(check: Callable[[str], object], text: str) -> None:
    check(text)


@pytest.mark.parametrize(
    ("check", "field", "fragment", "text"),
    [(check, field, fragment, text) for check, field, fragment, texts in BAD for text in texts],
)
def test_a_bad_label_is_refused(check: Callable[[str], object], field: str, fragment: str, text: str) -> None:
    with pytest.raises(Invalid, match=fragment) as refused:
        check(text)
    assert refused.value.field == field


@pytest.mark.parametrize("text", [*LDH_BAD, "all", "region"])
def test_one_bad_instance_id_among_good_ones_is_refused(text: str) -> None:
    names.check_instance_ids(["a1", "a2"])
    with pytest.raises(Invalid, match=re.escape(repr(text))):
        names.check_instance_ids(["a1", text, "a2"])


@given(st.from_regex(r"[0-9a-fx-]{1,12}", fullmatch=True))
def test_what_the_c_library_takes_for_an_address_names_no_service(text: str) -> None:
    try:
        socket.inet_aton(text)
    except OSError:
        return
    with pytest.raises(Invalid):
        names.check_new_service_name(text)
