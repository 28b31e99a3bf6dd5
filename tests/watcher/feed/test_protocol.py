"""The messages of the feed: their lines, and lines that are no message."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.worlds import PRODUCTION
from watcher.feed.errors import FeedBroken
from watcher.feed.protocol import (
    Clock,
    Loaded,
    Pending,
    Ready,
    Refused,
    Reply,
    Serve,
    Served,
    Update,
    Withdrawn,
    decode_reply,
    decode_update,
    encode,
)

UPDATES: dict[bytes, Update] = {
    b'pending production 7 {"id": "production"}\n': Pending(PRODUCTION, 7, b'{"id": "production"}'),
    b"ready production 7\n": Ready(PRODUCTION, 7),
    b"serve production 7 {}\n": Serve(PRODUCTION, 7, b"{}"),
    b"withdrawn production\n": Withdrawn(PRODUCTION),
    b"loaded\n": Loaded(),
    b"clock 86400000\n": Clock(86_400_000),
    b"clock -1500\n": Clock(-1500),
}

REPLIES: dict[bytes, Reply] = {
    b"served production 7\n": Served(PRODUCTION, 7),
    b"refused production 7\n": Refused(PRODUCTION, 7),
}

NO_UPDATE = [
    b"", b"hello", b"loaded now", b"pending production", b"pending production x {}", b"ready x 1 {}",
    b"ready production", b"ready production " + b"1" * 5000, b"withdrawn", b"served production 7", b"clock", b"clock x",
    b"clock --1", b"clock -",
]  # fmt: skip
NO_REPLY = [
    b"",
    b"served",
    b"served production",
    b"served production x",
    b"served production 1 2",
    b"ready production 7",
]


@pytest.mark.parametrize(("line", "update"), UPDATES.items())
def test_a_message_of_the_agent(line: bytes, update: Update) -> None:
    assert encode(update) == line
    assert decode_update(line) == update


@pytest.mark.parametrize(("line", "reply"), REPLIES.items())
def test_a_message_of_a_resolver(line: bytes, reply: Reply) -> None:
    assert encode(reply) == line
    assert decode_reply(line) == reply


@pytest.mark.parametrize("line", NO_UPDATE)
def test_a_line_that_is_no_message_of_the_agent(line: bytes) -> None:
    with pytest.raises(FeedBroken, match="not known here"):
        decode_update(line)


@pytest.mark.parametrize("line", NO_REPLY)
def test_a_line_that_is_no_message_of_a_resolver(line: bytes) -> None:
    with pytest.raises(FeedBroken, match="is no reply"):
        decode_reply(line)


@given(st.binary())
def test_any_line_is_a_message_or_breaks_the_protocol(line: bytes) -> None:
    for decode in (decode_update, decode_reply):
        with suppress(FeedBroken):
            decode(line)


def test_an_error_quotes_the_beginning_of_a_line_only() -> None:
    """A line may hold a document of megabytes."""
    for decode in (decode_update, decode_reply):
        with pytest.raises(FeedBroken) as broken:
            decode(b"x" * 1_000_000)
        assert len(str(broken.value)) < 300
