"""The compiled zone: which names exist, with which data, and from what they come."""

from __future__ import annotations

from ipaddress import IPv6Address, IPv6Network

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests import worlds
from tests.worlds import NOW, PLATFORM, build, compiled
from tests.zones import oracle
from tests.zones.strategies import INSTANCES, SERVICES, environments
from zones.addresses import Address, Platform
from zones.edits import DeleteInstance, Edit, PutInstance, PutRecord, PutService, apply
from zones.model import Environment, Port, RecordSet, State
from zones.names import Name
from zones.nodes import TTL, Node, Origin
from zones.records import RRType, Text
from zones.zone import NEGATIVE_TTL, Zone, compile_zone

APEX = "railway.internal."
SOA = f"ns.{APEX} hostmaster.{APEX} 2 3600 600 86400 1"
SECOND = 1000

WORLD = (
    PutService("api", ports=(Port("http", 8080), Port("dns", 53, "udp"))),
    PutInstance("api", "a1", State.READY, "h1", "eu", attached=True),
    PutInstance("api", "a2", State.READY, "h2", "us", attached=True),
    PutInstance("api", "a3", State.STARTING, None, "us"),
    PutInstance("api", "a4", State.DRAINING, None, "ap"),
    PutService("bare"),
    PutRecord("legacy", "A", RecordSet(60, ("192.0.2.1", "192.0.2.2"))),
    PutRecord("legacy", "AAAA", RecordSet(30, ("2001:db8::1",))),
    PutRecord("db", "CNAME", RecordSet(60, ("api.railway.internal.",))),
    PutRecord("note", "TXT", RecordSet(60, ("x" * 256,))),
    PutRecord("_sip._udp", "SRV", RecordSet(60, ("1 2 3 api.railway.internal.",))),
)
NETWORK = "fd12:5b1e:90c4"


def zone_of(*edits: Edit, now: int = NOW) -> Zone:
    return compiled(build("production", 0x5B1E90C4, *edits), now)


def find(zone: Zone, text: str) -> Node | None:
    """What is at ``text``, relative to the zone unless it ends in a dot."""
    return zone.find(Name.parse(text if text.endswith(".") else f"{text}.{APEX}" if text else APEX))


def data(node: Node | None) -> dict[str, list[str]] | None:
    """Types and data of ``node``, in order."""
    if node is None:
        return None
    return {RRType(rtype).name: [str(rdata) for rdata in rrset.rdatas] for rtype, rrset in node.rrsets.items()}


def reverse(address: str) -> str:
    return IPv6Address(address).reverse_pointer + "."


NAMES: list[tuple[str, Origin | None, dict[str, list[str]]]] = [
    # name, origin (None: it does not exist), data
    (
        "",
        Origin.APEX,
        {
            "SOA": [SOA],
            "NS": [f"ns.{APEX}"],
        },
    ),
    ("ns", Origin.NAMESERVER, {"AAAA": ["fd12::10"]}),
    ("x.ns", None, {}),
    ("api", Origin.SERVICE, {"AAAA": [f"{NETWORK}:1::1", f"{NETWORK}:1::2"]}),
    ("bare", Origin.SERVICE, {}),  # NODATA: a service without instances exists
    ("a1.api", Origin.INSTANCE, {"AAAA": [f"{NETWORK}:1::1"]}),
    ("a3.api", Origin.INSTANCE, {"AAAA": [f"{NETWORK}:1::3"]}),  # whatever its state
    ("a9.api", None, {}),
    ("x.a1.api", None, {}),
    ("a1.bare", None, {}),
    ("all.api", Origin.ALL, {"AAAA": [f"{NETWORK}:1::{number}" for number in range(1, 5)]}),
    ("all.bare", Origin.ALL, {}),
    ("x.all.api", None, {}),
    ("region.api", Origin.EMPTY_NON_TERMINAL, {}),
    ("region.bare", None, {}),
    ("eu.region.api", Origin.REGION, {"AAAA": [f"{NETWORK}:1::1"]}),
    ("us.region.api", Origin.REGION, {"AAAA": [f"{NETWORK}:1::2"]}),
    ("ap.region.api", Origin.REGION, {}),  # there, but not ready
    ("sa.region.api", None, {}),
    ("x.eu.region.api", None, {}),
    ("_tcp.api", Origin.EMPTY_NON_TERMINAL, {}),
    ("_udp.bare", None, {}),
    ("_http._tcp.api", Origin.PORT, {"SRV": [f"0 10 8080 a1.api.{APEX}", f"0 10 8080 a2.api.{APEX}"]}),
    ("_dns._udp.api", Origin.PORT, {"SRV": [f"0 10 53 a1.api.{APEX}", f"0 10 53 a2.api.{APEX}"]}),
    ("_http._udp.api", None, {}),
    ("_8080._tcp.api", None, {}),  # a port goes by its name
    ("http._tcp.api", None, {}),
    ("x._http._tcp.api", None, {}),
    ("_sctp.api", None, {}),
    (
        "_services",
        Origin.DIRECTORY,
        {
            "TXT": [
                '"name=api,ready=2,instances=4,port=http:8080/tcp,port=dns:53/udp"',
                '"name=bare,ready=0,instances=0"',
            ]
        },
    ),
    ("x._services", None, {}),
    (
        "_instances.api",
        Origin.INSTANCES,
        {
            "TXT": [
                f'"id=a1,address={NETWORK}:1::1,state=ready,region=eu,host=h1"',
                f'"id=a2,address={NETWORK}:1::2,state=ready,region=us,host=h2"',
                f'"id=a3,address={NETWORK}:1::3,state=starting,region=us"',
                f'"id=a4,address={NETWORK}:1::4,state=draining,region=ap"',
            ]
        },
    ),
    ("_instances.bare", Origin.INSTANCES, {}),
    ("legacy", Origin.RECORD, {"A": ["192.0.2.1", "192.0.2.2"], "AAAA": ["2001:db8::1"]}),
    ("db", Origin.RECORD, {"CNAME": [f"api.{APEX}"]}),
    ("note", Origin.RECORD, {"TXT": [f'"{"x" * 255}" "x"']}),
    ("_udp", Origin.EMPTY_NON_TERMINAL, {}),
    ("_sip._udp", Origin.RECORD, {"SRV": [f"1 2 3 api.{APEX}"]}),
    ("nosuch", None, {}),
    ("x.legacy", None, {}),
    ("API.RAILWAY.Internal.", Origin.SERVICE, {"AAAA": [f"{NETWORK}:1::1", f"{NETWORK}:1::2"]}),
    ("internal.", None, {}),
    (".", None, {}),
    ("api.example.", None, {}),
    (reverse(f"{NETWORK}:1::1"), Origin.REVERSE, {"PTR": [f"a1.api.{APEX}"]}),
    (reverse(f"{NETWORK}:1::3"), Origin.REVERSE, {"PTR": [f"a3.api.{APEX}"]}),
    (reverse(f"{NETWORK}:1::5"), None, {}),
    (reverse(f"{NETWORK}:2::1"), None, {}),
    (reverse(f"{NETWORK}::10"), Origin.NAMESERVER, {"PTR": [f"ns.{APEX}"]}),
    (reverse("fd12::10"), Origin.NAMESERVER, {"PTR": [f"ns.{APEX}"]}),
    (reverse("fd12:ab:cd:1::1"), None, {}),  # another environment's
    (reverse("2001:db8::1"), None, {}),
    ("x." + reverse(f"{NETWORK}:1::1"), None, {}),
    ("2.1.d.f.ip6.arpa.", Origin.APEX, {"SOA": [SOA], "NS": [f"ns.{APEX}"]}),
    ("1.d.f.ip6.arpa.", None, {}),
    ("ip6.arpa.", None, {}),
    ("b5.2.1.d.f.ip6.arpa.", None, {}),  # two nibbles in one label
    ("g.2.1.d.f.ip6.arpa.", None, {}),
    (r"\050.2.1.d.f.ip6.arpa.", None, {}),
]  # fmt: skip


@pytest.mark.parametrize(("text", "origin", "expected"), NAMES)
def test_each_name_of_a_zone(text: str, origin: Origin | None, expected: dict[str, list[str]]) -> None:
    node = find(zone_of(*WORLD), text)
    assert (node.origin if node else None, data(node) or {}) == (origin, expected)


@pytest.mark.parametrize("text", [text for text, origin, _ in NAMES if origin])
def test_every_set_is_named_as_it_was_asked_for(text: str) -> None:
    node = find(zone_of(*WORLD), text)
    assert node
    for rtype, rrset in node.rrsets.items():
        assert rrset.rtype == rtype
        assert rrset.name == Name.parse(text if text.endswith(".") else f"{text}.{APEX}" if text else APEX)
        assert len(set(rrset.rdatas)) == len(rrset.rdatas)


def test_ttls() -> None:
    zone = zone_of(*WORLD)
    ttls = {
        text: [rrset.ttl for rrset in node.rrsets.values()]
        for text in ("", "api", "legacy", "_http._tcp.api", reverse(f"{NETWORK}:1::1"))
        if (node := find(zone, text))
    }
    assert ttls == {
        "": [TTL, TTL],
        "api": [5],
        "legacy": [60, 30],
        "_http._tcp.api": [5],
        reverse(f"{NETWORK}:1::1"): [5],
    }
    assert zone.soa(zone.apex).ttl == NEGATIVE_TTL == 1


def test_only_addresses_of_instances_may_be_answered_in_part() -> None:
    zone = zone_of(*WORLD)
    partial = {
        text: node.rrsets[RRType.AAAA].any_part
        for text in ("api", "us.region.api", "all.api", "a1.api", "legacy")
        if (node := find(zone, text))
    }
    assert partial == {"api": True, "us.region.api": True, "all.api": False, "a1.api": False, "legacy": False}


def test_a_name_tells_which_service_it_belongs_to() -> None:
    zone = zone_of(*WORLD, PutService("api", rename="v2"))
    belongs = {
        text: node.service for text in ("api", "v2", "a1.api", "_tcp.v2", "legacy") if (node := find(zone, text))
    }
    assert belongs == {"api": "v2", "v2": "v2", "a1.api": "v2", "_tcp.v2": "v2", "legacy": None}
    node = find(zone, reverse(f"{NETWORK}:1::1"))
    assert node
    assert (node.service, data(node)) == ("v2", {"PTR": [f"a1.v2.{APEX}"]})


def test_which_zone_a_name_lies_in() -> None:
    zone = zone_of()
    apexes = {
        text: apex and str(apex)
        for text in ("api.railway.internal", "railway.internal", "internal", "x.ip6.arpa", "x.2.1.d.f.ip6.arpa", ".")
        for apex in [zone.apex_of(Name.parse(text))]
    }
    assert apexes == {
        "api.railway.internal": APEX,
        "railway.internal": APEX,
        "internal": None,
        "x.ip6.arpa": None,
        "x.2.1.d.f.ip6.arpa": "2.1.d.f.ip6.arpa.",
        ".": None,
    }


def test_the_serial_is_the_revision_and_wraps() -> None:
    network = PLATFORM.environment_network(1)
    zone = compiled(Environment(id=worlds.PRODUCTION, network=network, revision=2**32 + 7))
    assert zone.revision == 2**32 + 7
    assert str(zone.soa(zone.apex).rdatas[0]).split()[2] == "7"


def test_another_platform_has_other_names() -> None:
    platform = Platform(IPv6Network("fdab::/16"), Name.parse("mesh.example"))
    environment = Environment(id=worlds.PRODUCTION, network=platform.environment_network(7), revision=1)
    zone = compile_zone(platform, apply(environment, [PutService("api"), PutInstance("api", "a1")], NOW), NOW)
    assert data(find(zone, "api.mesh.example.")) == {"AAAA": ["fdab:0:7:1::1"]}
    assert data(find(zone, reverse("fdab:0:7:1::1"))) == {"PTR": ["a1.api.mesh.example."]}
    assert find(zone, "api.railway.internal.") is None


# Reverse


def test_every_nibble_above_an_address_exists_and_no_other() -> None:
    zone = zone_of(PutService("api"), PutInstance("api", "a1"))
    labels = oracle.ptr_name(IPv6Address(f"{NETWORK}:1::1"))
    for depth in range(5, 33):
        name = ".".join(labels[-depth:]) + ".ip6.arpa."
        node = find(zone, name)
        assert node, name
        assert node.origin is (Origin.REVERSE if depth == 32 else Origin.EMPTY_NON_TERMINAL)
        assert bool(node.rrsets) == (depth == 32)
        if depth >= 14:  # from here on, nothing else of ours lies beside it
            assert find(zone, ".".join(["f", *labels[-depth + 1 :]]) + ".ip6.arpa.") is None


def test_deleted_instances_leave_no_reverse_name() -> None:
    zone = zone_of(PutService("api"), PutInstance("api", "a1"), PutInstance("api", "a2"), DeleteInstance("api", "a1"))
    assert find(zone, reverse(f"{NETWORK}:1::1")) is None
    assert data(find(zone, reverse(f"{NETWORK}:1::2"))) == {"PTR": [f"a2.api.{APEX}"]}


# Wildcards (RFC 4592)

# The example of RFC 4592 §2.2.1 as far as our records go: no MX, no delegation, and no name below a '*'.
RFC4592 = (
    PutRecord("*.example", "TXT", RecordSet(60, ("this is a wildcard",))),
    PutRecord("*.example", "SRV", RecordSet(60, ("10 0 1 host1.example.",))),
    PutRecord("host1.example", "A", RecordSet(60, ("192.0.2.1",))),
    PutRecord("_ssh._tcp.host1.example", "SRV", RecordSet(60, ("0 0 22 host1.example.",))),
    PutRecord("_ssh._tcp.host2.example", "SRV", RecordSet(60, ("0 0 22 host2.example.",))),
)
SYNTHESIZED: list[tuple[str, Origin | None, list[str]]] = [
    # "The following responses would be synthesized from one of the wildcards in the zone"
    ("host3.example", Origin.WILDCARD, ["SRV", "TXT"]),  # asked for MX and A there: the name exists
    ("foo.bar.example", Origin.WILDCARD, ["SRV", "TXT"]),
    # "The following responses would not be synthesized from any of the wildcards in the zone"
    ("host1.example", Origin.RECORD, ["A"]),  # because host1.example exists
    ("*.example", Origin.RECORD, ["SRV", "TXT"]),  # the wildcard itself, asked for by its name
    ("_telnet._tcp.host1.example", None, []),  # because _tcp.host1.example exists (without data)
    ("host2.example", Origin.EMPTY_NON_TERMINAL, []),
    ("_tcp.host1.example", Origin.EMPTY_NON_TERMINAL, []),
    ("ghost.host2.example", None, []),
    ("ghost.*.example", None, []),  # §2.3: because *.example exists, and has no wildcard below it
    ("example", Origin.EMPTY_NON_TERMINAL, []),
    ("other", None, []),
    # §3.3.1: the closest encloser of _foo._tcp.host2 is _tcp.host2, its source of synthesis does not exist
    ("_foo._tcp.host2.example", None, []),
]


@pytest.mark.parametrize(("text", "origin", "types"), SYNTHESIZED)
def test_wildcards_as_in_rfc_4592(text: str, origin: Origin | None, types: list[str]) -> None:
    node = find(zone_of(*RFC4592), text)
    assert (node.origin if node else None, sorted(data(node) or {})) == (origin, types)


def test_a_wildcard_of_all_leaves_our_own_names_alone() -> None:
    zone = zone_of(*WORLD, PutRecord("*", "TXT", RecordSet(9, ("any",))))
    for text, origin, expected in NAMES:
        node = find(zone, text)
        if origin or text.endswith("."):
            assert (data(node) or {}) == (expected if "SOA" not in expected else data(node))
        else:
            below = text.split(".")[-1] in ("api", "bare", "ns", "_services", "legacy")
            assert data(node) == (None if below else {"TXT": ['"any"']}), text


def test_a_wildcard_answers_under_the_name_that_was_asked() -> None:
    zone = zone_of(PutRecord("*.apps", "A", RecordSet(9, ("192.0.2.1",))))
    node = find(zone, "Some.Deep.Name.apps")
    assert node
    assert str(node.rrsets[RRType.A]) == f"some.deep.name.apps.{APEX} 9 IN A 192.0.2.1"


# Former names


def test_a_former_name_answers_until_it_ends() -> None:
    environment = build(
        "production", 0x5B1E90C4, *WORLD,
        PutService("api", rename="v2", overlap=10), PutService("v2", rename="v3", overlap=5),
    )  # fmt: skip
    names = ["api", "v2", "v3"]
    for seconds, known, until in [(0, names, 5), (4.999, names, 5), (5, ["api", "v3"], 10), (10, ["v3"], None)]:
        zone = compiled(environment, int(NOW + seconds * SECOND))
        assert [name for name in names if find(zone, name)] == known
        assert zone.valid_until == (until and NOW + until * SECOND)
        assert [member.name for member in zone.members].count("v3") == len(known)
        assert len((data(find(zone, "_services")) or {})["TXT"]) == 2  # each service is listed once
        for name in known:
            assert data(find(zone, f"_http._tcp.{name}")) == {
                "SRV": [f"0 10 8080 a1.v3.{APEX}", f"0 10 8080 a2.v3.{APEX}"]
            }
            assert data(find(zone, f"a3.{name}")) == {"AAAA": [f"{NETWORK}:1::3"]}
    former = find(compiled(environment), "api")
    assert former
    assert former.origin is Origin.FORMER_NAME


def test_a_former_name_that_another_service_takes_answers_for_that_service() -> None:
    zone = zone_of(*WORLD, PutService("api", rename="v2"), PutService("api"), PutInstance("api", "new"))
    assert data(find(zone, "api")) == {"AAAA": [f"{NETWORK}:3::1"]}
    assert find(zone, "a1.api") is None
    assert data(find(zone, "a1.v2")) == {"AAAA": [f"{NETWORK}:1::1"]}
    assert zone.valid_until is None


# Properties

QNAME_LABELS = st.one_of(
    st.sampled_from(
        [name.encode() for name in [*SERVICES, *INSTANCES, "x", "y", "a.b", "eu", "region", "_tcp", "_http"]]
    ),
    st.sampled_from([bytes([octet]) for octet in b"0123456789abcdef"]),
    st.binary(min_size=1, max_size=4),
)


@st.composite
def qnames(draw: st.DrawFn, table: oracle.Table) -> Name:
    """A name of ``table``, or one near it."""
    base = draw(st.sampled_from(sorted(table)))
    labels = list(base.labels)[draw(st.integers(0, 2)) :]
    return Name.of([*draw(st.lists(QNAME_LABELS, max_size=3)), *labels])


@given(environments(), st.integers(0, 30), st.data())
def test_a_name_exists_exactly_where_the_model_says_so(
    environment: Environment, seconds: int, data_: st.DataObject
) -> None:
    now = NOW + seconds * SECOND
    down = data_.draw(st.sets(st.sampled_from(["h1", "h2"])))
    zone, table = compiled(environment, now, down), oracle.tabulate(PLATFORM, environment, now, down)
    asked = [*table, *(data_.draw(qnames(table)) for _ in range(20))]
    for qname in asked:
        found = data(zone.find(qname))
        as_sets = None if found is None else {rtype: set(values) for rtype, values in found.items()}
        assert as_sets == oracle.find(table, qname, PLATFORM.apex), qname


@given(environments(), environments("staging", 0x00AB00CD), st.data())
def test_no_answer_holds_anything_of_another_environment(
    mine: Environment, others: Environment, data_: st.DataObject
) -> None:
    zone = compiled(mine)
    everywhere = {**oracle.tabulate(PLATFORM, mine, NOW), **oracle.tabulate(PLATFORM, others, NOW)}
    for qname in [*everywhere, *(data_.draw(qnames(everywhere)) for _ in range(10))]:
        node = zone.find(qname)
        for rrset in node.rrsets.values() if node else ():
            for rdata in rrset.rdatas:
                if isinstance(rdata, Address):
                    assert IPv6Address(bytes(rdata)) not in others.network
                if isinstance(rdata, Text):
                    assert "fd12:ab:cd" not in str(rdata)


@given(
    st.lists(st.binary(min_size=1, max_size=20), max_size=8),
    st.sampled_from([APEX, f"api.{APEX}", "2.1.d.f.ip6.arpa", "."]),
)
@example([b"\x00"], APEX)
@example([b"a.b"], f"api.{APEX}")
@example([b"\xff", b"region"], f"api.{APEX}")
@example([b"_\xff", b"_tcp"], f"api.{APEX}")
def test_any_name_is_found_or_not(labels: list[bytes], below: str) -> None:
    zone = zone_of(*WORLD, *RFC4592)
    node = zone.find(Name.of([*labels, *Name.parse(below).labels]))
    assert node is None or isinstance(node, Node)


def test_the_oracle_finds_a_difference() -> None:
    """The negative control: a zone of another revision of the environment is not what the oracle says."""
    before = build("production", 0x5B1E90C4, *WORLD)
    zone = compiled(apply(before, [DeleteInstance("api", "a1")], NOW))
    table = oracle.tabulate(PLATFORM, before, NOW)
    wrong = [qname for qname in table if data(zone.find(qname)) is None and table[qname]]
    assert Name.parse(f"a1.api.{APEX}") in wrong
