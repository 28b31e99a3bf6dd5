"""The cache, with a clock that stands in the arguments."""

from __future__ import annotations

import tracemalloc

import pytest

from resolver.forward import cache as module
from resolver.forward.cache import FAILURE, SMALLEST, STALE, STALE_TTL, Cache, CacheKey, lifetime
from resolver.forward.exchange import Question
from resolver.wire.messages import Rcode, Reply
from zones.names import EnvironmentId, Name
from zones.records import Opaque, RRset, RRType, Soa

QNAME = Name.parse("www.example.com")
NOW = 1000.0


def key(name: str = "www.example.com", environment: str = "production", qtype: int = RRType.A) -> CacheKey:
    return EnvironmentId(environment), Question(Name.parse(name), qtype)


def addresses(ttl: int = 300, count: int = 1, name: Name = QNAME) -> RRset:
    return RRset(name, RRType.A, ttl, tuple(Opaque(number.to_bytes(4, "big")) for number in range(count)))


def reply(*rrsets: RRset, rcode: Rcode = Rcode.NOERROR, ttl: int | None = None) -> Reply:
    soa = RRset(QNAME, RRType.SOA, ttl or 0, (Soa(QNAME, QNAME, 1, 2, 3, 4, 5),))
    return Reply(rcode, rrsets, (soa,) if ttl else ())


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        (reply(addresses(300)), 300),
        (reply(RRset(QNAME, RRType.CNAME, 20, (QNAME,)), addresses(300)), 20),
        (reply(rcode=Rcode.NXDOMAIN, ttl=60), 60),
        (reply(RRset(QNAME, RRType.CNAME, 20, (QNAME,)), ttl=60), 20),
        (reply(), 1),
        (reply(rcode=Rcode.NXDOMAIN), 1),
    ],
)
def test_how_long_a_reply_holds(given: Reply, seconds: int) -> None:
    assert lifetime(given) == seconds
    cache = Cache()
    cache.store(key(), given, NOW)
    entry = cache.find(key(), NOW)
    assert entry
    assert entry.is_fresh(NOW + seconds - 0.001)
    assert not entry.is_fresh(NOW + seconds)


def test_ttls_count_down_each_by_itself_and_never_to_nothing() -> None:
    cache = Cache()
    cache.store(key(), reply(RRset(QNAME, RRType.CNAME, 20, (QNAME,)), addresses(300), ttl=60), NOW)
    entry = cache.find(key(), NOW)
    assert entry
    for gone, ttls in ((0, [20, 300, 60]), (0.99, [20, 300, 60]), (1, [19, 299, 59]), (19.9, [1, 281, 41])):
        aged = entry.aged(NOW + gone)
        assert [rrset.ttl for rrset in (*aged.answer, *aged.authority)] == ttls
    assert {rrset.ttl for rrset in (*entry.stale().answer, *entry.stale().authority)} == {STALE_TTL}


def test_within_a_second_it_is_one_object() -> None:
    cache = Cache()
    cache.store(key(), reply(addresses()), NOW)
    entry = cache.find(key(), NOW)
    assert entry
    assert entry.aged(NOW + 1.1) is entry.aged(NOW + 1.9)
    assert entry.aged(NOW + 1.9) is not entry.aged(NOW + 2.0)


def test_stale_is_no_longer_authentic() -> None:
    cache = Cache()
    cache.store(key(), Reply(Rcode.NOERROR, (addresses(),), authentic=True), NOW)
    entry = cache.find(key(), NOW)
    assert entry
    assert entry.aged(NOW).authentic
    assert not entry.stale().authentic


def test_it_is_kept_a_day_after_its_end() -> None:
    cache = Cache()
    cache.store(key(), reply(addresses(10)), NOW)
    assert cache.find(key(), NOW + 10 + STALE - 1)
    assert not cache.find(key(), NOW + 10 + STALE)


def test_a_failure_is_kept_beside_a_good_answer_and_ends_with_the_next_one() -> None:
    cache, failed = Cache(), Reply(Rcode.SERVFAIL)
    cache.store(key(), reply(addresses()), NOW)
    cache.store(key(), failed, NOW)
    assert cache.find(key(), NOW)
    assert cache.failure(key(), NOW + FAILURE - 0.1) is failed
    assert cache.failure(key(), NOW + FAILURE) is None
    cache.store(key(), failed, NOW)
    cache.store(key(), reply(addresses()), NOW)
    assert cache.failure(key(), NOW) is None


def test_what_is_in_use_and_about_to_end_wants_refreshing() -> None:
    cache = Cache()
    cache.store(key(), reply(addresses(100)), NOW)
    for uses, after, wants in ((1, 95, False), (2, 80, False), (3, 89, False), (4, 91, True)):
        entry = cache.find(key(), NOW + after)
        assert entry
        assert entry.uses == uses
        assert entry.wants_refreshing(NOW + after) is wants


@pytest.mark.parametrize("other", [key(environment="staging"), key(qtype=28), key("example.com")])
def test_another_key_is_another_entry(other: CacheKey) -> None:
    cache = Cache()
    cache.store(key(), reply(addresses()), NOW)
    cache.store(key(), Reply(Rcode.SERVFAIL), NOW)
    assert cache.find(other, NOW) is None
    assert cache.failure(other, NOW) is None


def test_small_answers_are_bounded_in_number() -> None:
    cache = Cache(100 * SMALLEST)
    for number in range(500):
        cache.store(key(f"n{number}.example"), reply(addresses()), NOW)
        assert cache.find(key("n0.example"), NOW)  # what is used stays
    assert len(cache) == 100
    assert cache.octets == 100 * SMALLEST


def test_large_answers_are_bounded_in_octets() -> None:
    cache = Cache(1 << 20)
    for number in range(100):
        cache.store(key(f"n{number}.example"), reply(addresses(count=500)), NOW)
        assert cache.octets <= 1 << 20
    assert len(cache) < 20


def test_what_is_larger_than_all_is_not_kept() -> None:
    cache = Cache(10 * SMALLEST)
    cache.store(key("small.example"), reply(addresses()), NOW)
    cache.store(key(), reply(addresses(count=1000)), NOW)
    assert cache.find(key(), NOW) is None
    assert cache.find(key("small.example"), NOW)


def test_failures_are_bounded() -> None:
    cache = Cache(1024 * SMALLEST)
    for number in range(5000):
        cache.store(key(f"n{number}.example"), Reply(Rcode.SERVFAIL), NOW)
    assert sum(cache.failure(key(f"n{number}.example"), NOW) is not None for number in range(5000)) == 64


@pytest.mark.parametrize("count", [1, 50])
def test_it_takes_no_more_memory_than_it_says(count: int) -> None:
    size = 4 << 20
    cache = Cache(size)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for number in range(size // SMALLEST):
            name = Name.parse(f"a-name-of-usual-length-{number}.example.com")
            rdatas = tuple(Opaque((number * count + one).to_bytes(4, "big")) for one in range(count))
            cache.store(
                (EnvironmentId("production"), Question(name, 1)),
                Reply(Rcode.NOERROR, (RRset(name, RRType.A, 300, rdatas),)),
                NOW,
            )
            entry = cache.find((EnvironmentId("production"), Question(name, 1)), NOW)
            assert entry
            entry.aged(NOW)
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert cache.octets > size * 0.9
    assert taken < size * 1.5


def test_the_whole_is_some_tens_of_megabytes() -> None:
    assert module.SIZE <= 64 << 20
