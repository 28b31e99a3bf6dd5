"""The notation of upstreams, which of them a name is asked of, and which one first."""

from __future__ import annotations

import pytest

from resolver.forward.upstream import (
    BACK_OFF_FIRST,
    BACK_OFF_LAST,
    HEDGE_LEAST,
    HEDGE_MOST,
    BadUpstream,
    Health,
    Routes,
    Upstream,
    read_resolv_conf,
)
from resolver.special import special_zone
from zones.names import Name

V6 = "2001:db8::53"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("192.0.2.1", Upstream("192.0.2.1", 53)),
        ("192.0.2.1:5353", Upstream("192.0.2.1", 5353)),
        (V6, Upstream(V6, 53)),
        ("2001:DB8:0::53", Upstream(V6, 53)),
        (f"[{V6}]", Upstream(V6, 53)),
        (f"[{V6}]:5353", Upstream(V6, 5353)),
        ("::1", Upstream("::1", 53)),
        ("fe80::1%eth0", Upstream("fe80::1%eth0", 53)),
        ("[fe80::1%eth0]:5353", Upstream("fe80::1%eth0", 5353)),
        ("tls://192.0.2.1", Upstream("192.0.2.1", 853, "192.0.2.1")),
        ("tls://192.0.2.1#dns.example", Upstream("192.0.2.1", 853, "dns.example")),
        ("tls://192.0.2.1:8853#dns.example", Upstream("192.0.2.1", 8853, "dns.example")),
        (f"tls://{V6}", Upstream(V6, 853, V6)),
        (f"tls://{V6}#dns.example", Upstream(V6, 853, "dns.example")),
        (f"tls://[{V6}]:8853#dns.example", Upstream(V6, 8853, "dns.example")),
    ],
)
def test_what_is_written_is_read_and_written_again(text: str, expected: Upstream) -> None:
    upstream = Upstream.parse(text)
    assert upstream == expected
    assert Upstream.parse(str(upstream)) == upstream


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is not an upstream"),
        ("dns.example", "is not an upstream"),
        ("192.0.2.256", "is not an upstream"),
        ("192.0.2.1:", "is not an upstream"),
        ("192.0.2.1:53:53", "is not an upstream"),
        ("192.0.2.1%eth0", "is not an upstream"),
        ("192.0.2.1:٥٣", "is not an upstream"),
        ("192.0.2.1:" + "9" * 5000, "is not an upstream"),
        ("2001:db8::g", "is not an upstream"),
        ("[2001:db8::53", "is not an upstream"),
        ("https://192.0.2.1", "is not an upstream"),
        ("tls://", "is not an upstream"),
        ("tls://dns.example", "is not an upstream"),
        ("tls://192.0.2.1#", "is not an upstream"),
        ("192.0.2.1\0", "is not an upstream"),
        ("192.0.2.1:0", "port 0"),
        ("192.0.2.1:65536", "port 65536"),
        ("192.0.2.1#dns.example", "without tls://"),
        ("a..b=192.0.2.1", "empty label"),
        ("=192.0.2.1", "no domain before the '='"),
        ("fe80::1", "name the interface too, as in fe80::1%eth0"),
        ("[fe80::1]:53", "name the interface too"),
        ("corp.example=", "is not an upstream"),
        ("localhost=192.0.2.1", "this resolver itself answers names at and below localhost."),
        ("x.onion=192.0.2.1", "this resolver itself answers names at and below onion."),
        ("alt=192.0.2.1", "this resolver itself answers"),
        ("_dns.resolver.arpa=192.0.2.1", "this resolver itself answers"),
        ("1.0.0.127.in-addr.arpa=192.0.2.1", "this resolver itself answers"),
    ],
)
def test_what_is_written_wrongly_is_told(text: str, reason: str) -> None:
    with pytest.raises(BadUpstream, match=reason):
        Routes.parse((text,))


@pytest.mark.parametrize(
    ("text", "protected"),
    [
        ("192.0.2.1", False),
        (V6, False),
        ("127.0.0.53", True),
        ("::1", True),
        ("tls://192.0.2.1", True),
        ("tls://192.0.2.1#dns.example", True),
    ],
)
def test_only_what_nobody_can_change_on_its_way_is_protected(text: str, protected: bool) -> None:
    assert Upstream.parse(text).is_protected is protected


@pytest.mark.parametrize(
    ("qname", "hosts"),
    [
        ("www.example.com", ("1.1.1.1", "9.9.9.9")),
        (".", ("1.1.1.1", "9.9.9.9")),
        ("corp.example", ("10.0.0.1", "10.0.0.2")),
        ("a.b.corp.example", ("10.0.0.1", "10.0.0.2")),
        ("lab.corp.example", ("10.0.0.3",)),
        ("x.LAB.corp.example", ("10.0.0.3",)),
        ("xlab.corp.example", ("10.0.0.1", "10.0.0.2")),
        ("xcorp.example", ("1.1.1.1", "9.9.9.9")),
    ],
)
def test_the_longest_suffix_decides(qname: str, hosts: tuple[str, ...]) -> None:
    routes = Routes.parse(
        (
            "1.1.1.1",
            "corp.example=10.0.0.1",
            "lab.corp.example=10.0.0.3",
            ".=9.9.9.9",
            "Corp.Example.=10.0.0.2",
        )
    )
    assert tuple(upstream.host for upstream in routes.upstreams(Name.parse(qname))) == hosts
    assert len(routes.all) == 5


def test_a_route_for_special_names_is_for_them_alone() -> None:
    texts = ("arpa=192.0.2.1", "10.in-addr.arpa=192.0.2.2", "Corp.Internal=192.0.2.3", "corp.example=192.0.2.4")
    routes = Routes.parse(("192.0.2.9", *texts))
    assert routes.routed == {Name.parse("10.in-addr.arpa"), Name.parse("corp.internal")}
    assert special_zone(Name.parse("1.0.0.10.in-addr.arpa"), routes.routed) is None
    assert special_zone(Name.parse("a.corp.internal"), routes.routed) is None
    for name in ("1.168.192.in-addr.arpa", "internal", "notcorp.internal", "a.local"):
        assert special_zone(Name.parse(name), routes.routed)


def test_without_a_route_for_all_there_is_nobody_for_the_rest() -> None:
    assert Routes.parse(("corp.example=10.0.0.1",)).upstreams(Name.parse("www.example")) == ()


def test_resolv_conf() -> None:
    text = """
# nameserver 192.0.2.9
; nameserver 192.0.2.8
domain example.com
search a.example b.example
nameserver 192.0.2.1
  nameserver\t2001:DB8::53   # the second
nameserver 192.0.2.1
nameserver fd12::10
nameserver 0:0:0:0:0:0:0:1
nameserver dns.example
nameserver fe80::1%eth0
nameserver
options ndots:1
"""
    upstreams = read_resolv_conf(text, frozenset({"fd12:0::10", "::1"}))
    assert [upstream.host for upstream in upstreams] == ["192.0.2.1", V6, "fe80::1%eth0"]
    assert {upstream.port for upstream in upstreams} == {53}
    assert read_resolv_conf("", frozenset()) == ()


class TestHealth:
    """Times are arguments, so no test waits."""

    def test_the_faster_goes_first(self) -> None:
        fast, slow = Health(), Health()
        for _ in range(20):
            fast.succeeded(0.005)
            slow.succeeded(0.08)
        assert sorted([slow, fast], key=lambda health: health.rank(0.0)) == [fast, slow]
        assert fast.round_trip == pytest.approx(0.005, abs=0.01)

    def test_who_failed_goes_last_for_a_while(self) -> None:
        failed, slow = Health(round_trip=0.001), Health(round_trip=0.2)
        failed.failed(100.0)
        assert failed.rank(100.0) > slow.rank(100.0)
        assert failed.rank(100.0 + BACK_OFF_FIRST) < slow.rank(100.0 + BACK_OFF_FIRST)

    def test_the_while_grows_with_each_failure_in_a_row_and_ends_with_a_success(self) -> None:
        health, now, rests = Health(), 100.0, []
        for _ in range(12):
            health.failed(now)
            rests.append(health.rest_until - now)
            now = health.rest_until
        assert rests[:4] == [BACK_OFF_FIRST * 2**n for n in range(4)]
        assert rests[-1] == BACK_OFF_LAST
        health.succeeded(0.01)
        assert not health.rank(now)[0]
        assert health.failed(now) == 1

    def test_a_hundred_failures_of_one_outage_are_one(self) -> None:
        health = Health()
        assert [health.failed(100.0) for _ in range(100)] == [1] + [0] * 99
        assert health.rest_until == 100.0 + BACK_OFF_FIRST

    def test_patience_has_bounds(self) -> None:
        assert Health(round_trip=0.0001).hedge_delay == HEDGE_LEAST
        assert Health(round_trip=0.03).hedge_delay == pytest.approx(0.09)
        assert Health(round_trip=5.0).hedge_delay == HEDGE_MOST
