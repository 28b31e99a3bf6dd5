"""What each question gets, as data: (who asks, name, type) → (rcode, answer lines, SOA owner of a negative answer)."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv6Address

from tests import worlds
from zones.zone import reverse_name

API = "fd12:5b1e:90c4:1::"
SINGLE = "fd12:5b1e:90c4:2::1"
ZONE = "railway.internal."
REVERSE_ZONE = "2.1.d.f.ip6.arpa."


@dataclass(frozen=True, slots=True)
class Case:
    """``answer`` is the whole answer section, its last RRset in any order; ``soa`` the owner of the SOA, if any."""

    name: str
    rtype: str
    rcode: str
    answer: tuple[str, ...] = ()
    soa: str = ""
    source: str = worlds.PRODUCTION_SOURCE
    error: str = ""

    def __str__(self) -> str:
        return f"{self.name or '(empty)'}-{self.rtype}-{self.source.rpartition('.')[2]}"


def reverse(address: str, nibbles: int = 32) -> str:
    return str(reverse_name(IPv6Address(address).packed, nibbles))


def nodata(name: str, rtype: str, *, soa: str = ZONE, source: str = worlds.PRODUCTION_SOURCE) -> Case:
    return Case(name, rtype, "NOERROR", soa=soa, source=source)


def nxdomain(name: str, rtype: str = "AAAA", *, soa: str = ZONE, source: str = worlds.PRODUCTION_SOURCE) -> Case:
    return Case(name, rtype, "NXDOMAIN", soa=soa, source=source)


def found(name: str, rtype: str, *answer: str, source: str = worlds.PRODUCTION_SOURCE) -> Case:
    return Case(name, rtype, "NOERROR", answer, source=source)


SOA_LINE = "ns.railway.internal. hostmaster.railway.internal. 2 3600 600 86400 1"

CASES = (
    # The zone itself
    found("@", "SOA", f"@ SOA {SOA_LINE}"),
    found("@", "NS", "@ NS ns.railway.internal."),
    found("@", "ANY", f"@ SOA {SOA_LINE}"),
    nodata("@", "AAAA"),
    found("ns", "AAAA", "ns AAAA fd12::10"),
    nodata("ns", "A"),
    # Services and their instances
    found("api", "AAAA", f"api AAAA {API}1", f"api AAAA {API}2"),
    nodata("api", "A"),
    nodata("api", "TXT"),
    nodata("api", "HTTPS"),
    nodata("api", "SVCB"),
    nodata("api", "TYPE65280"),
    nodata("api", "SOA"),
    nodata("api", "CNAME"),
    found("api", "ANY", f"api AAAA {API}1", f"api AAAA {API}2"),
    nodata("empty", "AAAA"),
    nodata("empty", "ANY"),
    found("a1.api", "AAAA", f"a1.api AAAA {API}1"),
    found("a3.api", "AAAA", f"a3.api AAAA {API}3"),
    nodata("a1.api", "A"),
    nxdomain("a9.api"),
    nxdomain("x.a1.api"),
    found("all.api", "AAAA", *(f"all.api AAAA {API}{number}" for number in (1, 2, 3, 4))),
    nodata("all.empty", "AAAA"),
    found("one.single", "AAAA", f"one.single AAAA {SINGLE}"),
    nodata("one.single", "A"),
    nodata("one.empty", "AAAA"),
    nxdomain("x.one.api"),
    found("eu.region.api", "AAAA", f"eu.region.api AAAA {API}1"),
    nodata("ap.region.api", "AAAA"),
    nxdomain("mars.region.api"),
    nodata("region.api", "AAAA"),
    nxdomain("region.single"),
    found(
        "_http._tcp.api",
        "SRV",
        "_http._tcp.api SRV 0 10 8080 a1.api.railway.internal.",
        "_http._tcp.api SRV 0 10 8080 a2.api.railway.internal.",
    ),
    nodata("_http._tcp.api", "AAAA"),
    nodata("_tcp.api", "SRV"),
    nxdomain("_http._udp.api", "SRV"),
    nxdomain("_none._tcp.api", "SRV"),
    nodata("_dns._udp.empty", "SRV"),
    # Directories
    found(
        "_services",
        "TXT",
        '_services TXT "name=api,ready=2,instances=4,port=http:8080/tcp,port=metrics:9090/tcp"',
        '_services TXT "name=single,ready=1,instances=1"',
        '_services TXT "name=empty,ready=0,instances=0,port=dns:53/udp"',
        '_services TXT "name=crowd,ready=60,instances=60,port=http:80/tcp"',
        '_services TXT "name=secret,ready=1,instances=1"',
    ),
    found("_instances.single", "TXT", f'_instances.single TXT "id=only,address={SINGLE},state=ready"'),
    nodata("_instances.empty", "TXT"),
    # Custom records
    found("legacy", "A", "legacy A 192.0.2.1", "legacy A 192.0.2.2"),
    found("legacy", "AAAA", "legacy AAAA 2001:db8::1"),
    found("note", "TXT", 'note TXT "hello"', f'note TXT "{"x" * 255}" "{"x" * 45}"'),
    found("_sip._udp", "SRV", "_sip._udp SRV 10 5 5060 api.railway.internal."),
    nodata("_udp", "SRV"),
    # Aliases: the CNAME first, then its target
    found("db", "AAAA", "db CNAME single.railway.internal.", f"single AAAA {SINGLE}"),
    found("db", "CNAME", "db CNAME single.railway.internal."),
    found("db", "ANY", "db CNAME single.railway.internal."),
    found(
        "db2",
        "AAAA",
        "db2 CNAME db.railway.internal.",
        "db CNAME single.railway.internal.",
        f"single AAAA {SINGLE}",
    ),
    Case("db", "A", "NOERROR", ("db CNAME single.railway.internal.",), soa=ZONE),
    Case("dangling", "AAAA", "NXDOMAIN", ("dangling CNAME nowhere.railway.internal.",), soa=ZONE),
    Case("outside", "AAAA", "NOERROR", ("outside CNAME www.example.com.",), error="forwarding is not configured"),
    Case("loop", "AAAA", "SERVFAIL", error="is there a loop?"),
    # Wildcards (RFC 4592)
    found("x.apps", "AAAA", "x.apps AAAA 2001:db8::a"),
    found("y.x.apps", "TXT", 'y.x.apps TXT "wild"'),
    nodata("x.apps", "A"),
    found("*.apps", "TXT", '*.apps TXT "wild"'),
    nodata("apps", "TXT"),
    nodata("fixed.apps", "AAAA"),
    nxdomain("x.fixed.apps", "TXT"),
    nodata("under.apps", "TXT"),
    nxdomain("x.under.apps", "TXT"),
    found("x.alias", "AAAA", "x.alias CNAME single.railway.internal.", f"single AAAA {SINGLE}"),
    # Names that are not there
    nxdomain("nosuch"),
    nxdomain("nosuch", "A"),
    nxdomain("nosuch", "ANY"),
    nxdomain("api.api"),
    nxdomain("only-here"),
    # Reverse
    found(reverse(f"{API}1"), "PTR", f"{reverse(f'{API}1')} PTR a1.api.railway.internal."),
    found(reverse("fd12::10"), "PTR", f"{reverse('fd12::10')} PTR ns.railway.internal."),
    nodata(reverse(f"{API}1"), "AAAA", soa=REVERSE_ZONE),
    nodata(reverse(f"{API}1", 31), "PTR", soa=REVERSE_ZONE),
    nodata(reverse(API, 16), "PTR", soa=REVERSE_ZONE),
    nodata(reverse(API, 12), "PTR", soa=REVERSE_ZONE),
    nxdomain(reverse(f"{API}99"), "PTR", soa=REVERSE_ZONE),
    nxdomain(reverse("fd12:ab:cd:1::1"), "PTR", soa=REVERSE_ZONE),
    nxdomain("x." + reverse(f"{API}1"), "PTR", soa=REVERSE_ZONE),
    nxdomain("zz." + REVERSE_ZONE, "PTR", soa=REVERSE_ZONE),
    found(REVERSE_ZONE, "SOA", f"{REVERSE_ZONE} SOA {SOA_LINE}"),
    # The other environment: the same names, other answers
    found("api", "AAAA", "api AAAA fd12:ab:cd:1::1", source=worlds.STAGING_SOURCE),
    found("only-here", "AAAA", "only-here AAAA fd12:ab:cd:2::1", source=worlds.STAGING_SOURCE),
    nxdomain("secret", source=worlds.STAGING_SOURCE),
    nxdomain("legacy", source=worlds.STAGING_SOURCE),
    nxdomain(reverse(f"{API}1"), "PTR", soa=REVERSE_ZONE, source=worlds.STAGING_SOURCE),
    # No environment
    Case("api", "AAAA", "REFUSED", source=worlds.OUTSIDE_SOURCE, error="belongs to no environment"),
    Case("@", "SOA", "REFUSED", source=worlds.OUTSIDE_SOURCE, error="belongs to no environment"),
    Case("api", "AAAA", "REFUSED", source=worlds.UNBOUND_SOURCE, error="'deleted', which does not exist"),
    # Not the platform's
    Case("www.example.com.", "AAAA", "REFUSED", error="forwarding is not configured"),
    Case(".", "NS", "REFUSED", error="forwarding is not configured"),
    # Names that never leave
    nxdomain("notrailway.internal.", soa="internal."),
    nodata("internal.", "AAAA", soa="internal."),
    found("localhost.", "A", "localhost. A 127.0.0.1"),
    found("localhost.", "AAAA", "localhost. AAAA ::1"),
    found("a.b.localhost.", "AAAA", "a.b.localhost. AAAA ::1"),
    nodata("localhost.", "TXT", soa="localhost."),
    found("1.0.0.127.in-addr.arpa.", "PTR", "1.0.0.127.in-addr.arpa. PTR localhost."),
    found(reverse("::1"), "PTR", f"{reverse('::1')} PTR localhost."),
    nxdomain("printer.local.", soa="local."),
    nxdomain("abc.onion.", "A", soa="onion."),
    nxdomain("a.alt.", soa="alt."),
    nxdomain("a.test.", soa="test."),
    nxdomain("a.invalid.", soa="invalid."),
    nxdomain("1.1.168.192.in-addr.arpa.", "PTR", soa="168.192.in-addr.arpa."),
    nxdomain("1.0.0.10.in-addr.arpa.", "PTR", soa="10.in-addr.arpa."),
    nxdomain("1.1.20.172.in-addr.arpa.", "PTR", soa="20.172.in-addr.arpa."),
    nxdomain(reverse("fe80::1"), "PTR", soa="8.e.f.ip6.arpa."),
    nxdomain(reverse("fd34::1"), "PTR", soa="d.f.ip6.arpa."),
    nodata("10.in-addr.arpa.", "A", soa="10.in-addr.arpa."),
    Case("1.1.32.172.in-addr.arpa.", "PTR", "REFUSED", error="forwarding is not configured"),
    Case("@", "AXFR", "REFUSED", error="not transferred"),
    Case("@", "IXFR", "REFUSED", error="not transferred"),
)
