"""Documents: what is written is read back, and nothing else is read."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import worlds
from tests.zones.strategies import environments
from zones import document
from zones.edits import PutPeer
from zones.errors import Invalid
from zones.model import Environment


@given(environments())
def test_what_is_written_is_read_back(environment: Environment) -> None:
    written = document.encode(environment)
    assert document.decode(written) == environment
    assert document.encode(document.decode(written)) == written


def test_a_document_is_plain_json() -> None:
    read = json.loads(document.encode(worlds.staging()))
    assert read["id"] == "staging"
    assert read["network"] == "fd12:ab:cd::/48"
    assert read["services"]["api"] == {
        "subnet": "fd12:ab:cd:1::/64",
        "ports": [{"name": "http", "number": 8080, "protocol": "tcp"}],
        "instances": {"a1": {"address": "fd12:ab:cd:1::1", "state": "ready"}},
        "last_number": 1,
    }
    assert "peers" not in read, "what a release before there were peers could not read"


def test_peers_are_plain_json() -> None:
    read = json.loads(document.encode(worlds.build("staging", 1, PutPeer("laptop", worlds.public_key(1), "h1"))))
    key = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAE="
    assert read["peers"] == {"laptop": {"public_key": key, "address": "fd12:0:1::100", "gateway": "h1"}}
    assert read["last_peer"] == 0x100


def test_instances_on_one_host_share_the_text_of_its_id_and_of_their_region() -> None:
    production = document.encode(worlds.production())
    read = [document.decode(production), document.decode(production)]
    made = [each for environment in read for each in environment.services["api"].instances.values()]
    assert len({each.host for each in made}) == len({id(each.host) for each in made}) < len(made)
    assert len({each.region for each in made}) == len({id(each.region) for each in made}) < len(made)


def test_equal_documents_have_equal_digests() -> None:
    one, other = document.encode(worlds.production()), document.encode(worlds.staging())
    assert document.digest(one) == document.digest(bytes(bytearray(one)))
    assert document.digest(one) != document.digest(other)
    assert len(document.digest(one)) == 32


BARE = {"id": "production", "network": "fd12:1:2::/48", "revision": 1}
SERVICE = {"subnet": "fd12:1:2:1::/64"}
INSTANCE = {"address": "fd12:1:2:1::1", "state": "ready"}


def with_service(**fields: Any) -> dict[str, Any]:
    return {**BARE, "services": {"api": {**SERVICE, **fields}}}


REFUSED = {
    # what: (document, fragment of the message)
    "nothing": (b"", "not a document"),
    "no JSON": (b"{", "not a document"),
    "cut short": (document.encode(worlds.production())[:-1], "not a document"),
    "more behind it": (document.encode(worlds.production()) + b"x", "trailing characters"),
    "no object": ([], "Expected `object`"),
    "depth": (b"[" * 100_000, "Expected `object`"),
    "not UTF-8": (b'{"id":"\xff"}', "not a document"),
    "no id": ({"network": "fd12:1:2::/48", "revision": 1}, "`id`"),
    "no network": ({"id": "a", "revision": 1}, "`network`"),
    "an unknown field": ({**BARE, "colour": "red"}, "unknown field `colour`: this release does not know that; .*upgr"),
    "an unknown value": (
        with_service(instances={"a1": {**INSTANCE, "state": "paused"}}),
        "Invalid enum value 'paused' .* this release does not know that",
    ),
    "another schema": ({**BARE, "schema": 99}, "schema 99, and this release reads schema 1: a newer release wrote it"),
    "another schema with what it brings": ({**BARE, "schema": 2, "colour": "red"}, "schema 2, and this release reads"),
    "an older schema": ({**BARE, "schema": 0}, "schema 0"),
    "a text as revision": ({**BARE, "revision": "1"}, r"\$.revision"),
    "a broken rule": ({**BARE, "id": "A"}, "not an environment id"),
    "a network that is none": ({**BARE, "network": "fd12::/200"}, r"\$.network"),
    "a number as network": ({**BARE, "network": 5}, r"not a /48"),
    "null as network": ({**BARE, "network": None}, r"\$.network"),
    "host bits": ({**BARE, "network": "fd12:1:2::1/48"}, "host bits"),
    "an unknown field below": (with_service(colour="red"), r"unknown field `colour`.*services"),
    "an unknown state": (with_service(instances={"a": {**INSTANCE, "state": "gone"}}), "'gone'.*state"),
    "an address that is none": (with_service(instances={"a": {**INSTANCE, "address": "x"}}), "not an IPv6.*address"),
    "a number as address": (with_service(instances={"a": {**INSTANCE, "address": 5}}), r"address"),
    "a port's protocol": (with_service(ports=[{"name": "a", "number": 1, "protocol": "sctp"}]), "sctp.*ports"),
    "a record of another type": (
        {**BARE, "records": {"db": {"MX": {"ttl": 1, "values": ["10 a."]}}}},
        "'MX'.*records",
    ),
    "a record's data": ({**BARE, "records": {"db": {"A": {"ttl": 1, "values": ["x"]}}}}, "'db': 'x' is not an IPv4"),
    "an endless number": (b'{"revision": 1e999}', "revision"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_a_bad_document_is_refused_with_its_reason(what: str) -> None:
    bad, fragment = REFUSED[what]
    with pytest.raises(Invalid, match=fragment):
        document.decode(bad if isinstance(bad, bytes) else json.dumps(bad).encode())


@given(st.binary(max_size=200))
def test_any_octets_are_a_document_or_are_refused(octets: bytes) -> None:
    with pytest.raises(Invalid):
        document.decode(octets)


@given(st.data())
def test_a_damaged_document_is_valid_or_is_refused(data: st.DataObject) -> None:
    damaged = bytearray(document.encode(worlds.staging()))
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        environment = document.decode(bytes(damaged))
    except Invalid:
        return
    worlds.compiled(environment)
    assert document.decode(document.encode(environment)) == environment


def test_a_type_that_documents_cannot_hold_is_a_programming_error() -> None:
    with pytest.raises(NotImplementedError):
        document.encode_value(object())
    with pytest.raises(NotImplementedError):
        document.decode_value(complex, "1")
