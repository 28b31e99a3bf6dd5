"""Packed replies that are kept: the same octets as packing anew, and bounded."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest

from resolver.wire import packed as module
from resolver.wire.messages import Rcode, Reply
from resolver.wire.packed import PackedReplies


def test_they_are_of_the_very_reply_and_meaning() -> None:
    kept, reply, equal = PackedReplies(), Reply(Rcode.NOERROR), Reply(Rcode.NOERROR)
    kept.put(reply, "meaning", b"octets")
    assert kept.get(reply, "meaning") == b"octets"
    assert kept.get(reply, "other") is None
    assert kept.get(equal, "meaning") is None


def test_a_reply_that_is_changed_has_none() -> None:
    kept, reply = PackedReplies(), Reply(Rcode.NOERROR)
    kept.put(reply, "meaning", b"octets")
    assert kept.get(replace(reply, checking_disabled=True), "meaning") is None


def test_they_do_not_make_replies_differ() -> None:
    kept, reply = PackedReplies(), Reply(Rcode.NOERROR)
    kept.put(reply, "meaning", b"octets")
    assert reply == Reply(Rcode.NOERROR)
    assert hash(reply) == hash(Reply(Rcode.NOERROR))
    assert repr(reply) == repr(Reply(Rcode.NOERROR))


def test_a_reply_that_takes_the_place_of_another_in_memory_has_none() -> None:
    kept = PackedReplies()
    for number in range(1000):
        reply = Reply(Rcode.NOERROR, rotations=number)
        assert kept.get(reply, "meaning") is None
        kept.put(reply, "meaning", b"octets")


def test_they_keep_no_reply_alive() -> None:
    kept, reply = PackedReplies(), Reply(Rcode.NOERROR)
    before = sys.getrefcount(reply)
    kept.put(reply, "meaning", b"octets")
    assert sys.getrefcount(reply) == before


@pytest.mark.parametrize("length", [10, 5000])
def test_they_are_bounded_in_octets(length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SIZE", 100 * module.SMALLEST)
    kept, replies = PackedReplies(), [Reply(Rcode.NOERROR) for _ in range(500)]
    most = 0
    for reply in replies:
        kept.put(reply, "meaning", bytes(length))
        most = max(most, sum(kept.get(one, "meaning") is not None for one in replies))
    assert most == 100 * module.SMALLEST // max(length, module.SMALLEST)


def test_many_meanings_of_one_reply_are_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client can write one name in any letters: each is a meaning of its own."""
    monkeypatch.setattr(module, "SIZE", 100 * module.SMALLEST)
    kept, reply = PackedReplies(), Reply(Rcode.NOERROR)
    for number in range(500):
        kept.put(reply, number, b"octets")
        assert sum(kept.get(reply, each) is not None for each in range(500)) <= 100
