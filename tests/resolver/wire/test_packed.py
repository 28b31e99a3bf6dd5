"""Packed replies that are kept: the same octets as packing anew, and bounded."""

from __future__ import annotations

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


def test_an_object_that_takes_the_place_of_another_in_memory_is_not_taken_for_it() -> None:
    kept = PackedReplies()
    for number in range(1000):
        reply = Reply(Rcode.NOERROR, rotations=number)
        assert kept.get(reply, "meaning") is None
        kept.put(reply, "meaning", b"octets")


@pytest.mark.parametrize("length", [10, 5000])
def test_they_are_bounded_in_octets(length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SIZE", 100 * module.SMALLEST)
    kept, replies = PackedReplies(), [Reply(Rcode.NOERROR) for _ in range(500)]
    most = 0
    for reply in replies:
        kept.put(reply, "meaning", bytes(length))
        most = max(most, sum(kept.get(one, "meaning") is not None for one in replies))
    assert most == 100 * module.SMALLEST // max(length, module.SMALLEST)
