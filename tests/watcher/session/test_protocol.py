"""The messages of a session over the wire: they arrive as sent; no message is refused, and a new kind passed over."""

from __future__ import annotations

import pytest
from msgspec import Raw

from watcher.session.errors import SessionBroken
from watcher.session.protocol import (
    Acknowledge,
    EnvironmentIs,
    Failure,
    Loaded,
    Register,
    Waited,
    decode_message,
    decode_request,
    encode,
    join_messages,
    key_proof_input,
    split_messages,
)
from zones.hosts import Host
from zones.keys import PublicKey
from zones.names import EnvironmentId

KEY = PublicKey("B" * 42 + "A=")
HOST = Host(id="h1", endpoint="192.0.2.1:51820", public_key=KEY)
DOCUMENT = b'{"id": "production",  "revision": 3}'


def test_a_request_is_read_as_it_was_sent() -> None:
    for request in (Register(1, HOST, {KEY: "proof"}), Acknowledge(2, {"production": 3, "@hosts": 4})):
        assert decode_request(encode(request)) == request


def test_an_answer_and_an_update_are_read_as_they_were_sent() -> None:
    for message in (Waited(7, ("h2",)), Failure(8, "lease", "another agent is this host"), Loaded(None)):
        assert decode_message(encode(message)) == message


def test_messages_that_come_at_once_are_told_apart() -> None:
    one, other = encode(Failure(8, "lease", "a text\nof two lines")), encode(Loaded("epoch"))
    together = join_messages([one, other])
    assert split_messages(together) == split_messages(together.decode()) == [one, other]


def test_a_document_arrives_octet_for_octet() -> None:
    read = decode_message(encode(EnvironmentIs(EnvironmentId("production"), 3, Raw(DOCUMENT))))
    assert isinstance(read, EnvironmentIs)
    assert bytes(read.document) == DOCUMENT


@pytest.mark.parametrize(
    "sent", [b"", b"[]", b'{"is":"hello"}', b'{"is":"no such","number":1}', b"\xff" * 9, b"[" * 9999]
)
def test_what_is_no_request_is_refused(sent: bytes) -> None:
    with pytest.raises(SessionBroken, match="an agent sent"):
        decode_request(sent)


def test_an_agent_passes_over_a_kind_that_a_later_release_adds_and_a_field_likewise() -> None:
    assert decode_message(b'{"is":"no such update","more":1}') is None
    assert decode_message(b'{"is":"gone","id":"production","why":"new"}') is not None


def test_a_proof_is_of_one_host_and_one_key() -> None:
    assert key_proof_input("h1", KEY) != key_proof_input("h2", KEY)
