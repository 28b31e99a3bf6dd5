"""TTLs in a packed reply: all of them are found and counted down, and nothing else in it changes."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from resolver.wire.messages import QueryHeader, Reply
from resolver.wire.packer import pack
from resolver.wire.ttls import count_down, find_ttls
from tests.resolver.wire.test_dnslib import REPLIES, headers
from zones.records import RRset


def aged(rrsets: tuple[RRset, ...], seconds: int) -> tuple[RRset, ...]:
    return tuple(rrset.changed(ttl=max(1, rrset.ttl - seconds)) for rrset in rrsets)


@settings(max_examples=50)
@given(headers(), REPLIES, st.sampled_from([512, 65535]), st.integers(0, 100_000), st.integers(0, 100_000))
def test_a_reply_counted_down_is_the_reply_packed_with_less(
    header: QueryHeader, reply: Reply, limit: int, first: int, then: int
) -> None:
    packed = pack(header, reply, limit)[2:]
    ttls = find_ttls(packed)
    changed = count_down(count_down(packed, ttls, first), ttls, then)
    older = reply.changed(answer=aged(reply.answer, first + then), authority=aged(reply.authority, first + then))
    if any(rrset.ttl == 0 for rrset in (*reply.answer, *reply.authority)) and not first + then:
        return  # what is cached has a TTL of 1 at least
    assert changed == pack(header, older, limit)[2:]
