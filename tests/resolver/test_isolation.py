"""No answer for one environment ever holds another's data, whatever is asked and however the worlds look."""

from __future__ import annotations

import ipaddress
import socket

from hypothesis import given, settings
from hypothesis import strategies as st

from resolver.counts import QueryCounts
from resolver.responder import Responder
from resolver.scope import ScopeTable
from resolver.wire.messages import Transport
from tests import worlds
from tests.resolver.cases import reverse
from tests.resolver.messages import query
from zones.edits import Edit, PutInstance, PutRecord, PutService, apply
from zones.errors import ZonesError
from zones.model import Environment, RecordSet
from zones.names import EnvironmentId

LABELS = ("api", "web", "db", "cache")
IDS = (EnvironmentId("red"), EnvironmentId("blue"), EnvironmentId("green"))
SOURCES = {EnvironmentId(id_): f"127.0.1.{number}" for number, id_ in enumerate(IDS, 1)}
TYPES = ("AAAA", "A", "TXT", "SRV", "CNAME", "PTR", "ANY", "SOA", "NS")


def marker(id_: str) -> str:
    return f"belongs-to-{id_}"


@st.composite
def environments(draw: st.DrawFn) -> list[Environment]:
    """Three environments that draw on the same few names, each value marked as its own."""
    worlds_ = []
    for number, id_ in enumerate(IDS, 1):
        edits: list[Edit] = []
        for name in draw(st.lists(st.sampled_from(LABELS), unique=True)):
            edits.append(PutService(name))
            edits.extend(PutInstance(name, f"{name}{n}", region=id_) for n in range(draw(st.integers(0, 3))))
        marked = RecordSet(60, (marker(id_),))
        names = draw(st.lists(st.sampled_from((*LABELS, "*.apps", "x.apps")), unique=True))
        edits.extend(PutRecord(name, "TXT", marked) for name in names)
        environment = worlds.build(id_, number * 0x01010101)
        for edit in edits:
            try:
                environment = apply(environment, [edit], worlds.NOW)
            except ZonesError:
                continue  # a record where a service is: refused, as it should be
        worlds_.append(environment)
    return worlds_


def reverse_of(number: int, subnet: int, host: int, nibbles: int) -> str:
    byte = f"{number:02x}"
    return reverse(f"fd12:{byte}{byte}:{byte}{byte}:{subnet:x}::{host:x}", nibbles)


PARTS = st.sampled_from(["all", "_instances", "red.region", "blue.region"])
NAMES = st.one_of(
    st.sampled_from(["@", "ns", "_services", "x.apps", "y.apps", "nosuch"]),
    st.sampled_from(LABELS),
    st.builds("{}0.{}".format, st.sampled_from(LABELS), st.sampled_from(LABELS)),
    st.builds("{}.{}".format, PARTS, st.sampled_from(LABELS)),
    st.builds(reverse_of, st.integers(1, 3), st.integers(0, 4), st.integers(0, 4), st.integers(4, 32)),
)


@settings(max_examples=300, deadline=None)
@given(environments(), st.lists(st.tuples(st.sampled_from(IDS), NAMES, st.sampled_from(TYPES)), max_size=40))
def test_no_answer_holds_another_environments_data(
    environments: list[Environment], questions: list[tuple[EnvironmentId, str, str]]
) -> None:
    bindings = {ipaddress.ip_network(source): id_ for id_, source in SOURCES.items()}
    scopes = ScopeTable(worlds.PLATFORM, bindings)
    for environment in environments:
        scopes.publish(worlds.compiled(environment))
    scopes.is_loaded = True
    networks = {environment.id: environment.network for environment in environments}
    for id_, name, rtype in questions:
        state = scopes.scope_of(socket.inet_aton(SOURCES[id_]), worlds.ASKED).state
        for _ in range(2):  # anew, then from the packet cache
            reply = Responder(scopes, QueryCounts()).respond(query(name, rtype, payload=1232), state, Transport.UDP)
            assert isinstance(reply, bytes)
            tail = reply[12:]
            for other in set(IDS) - {id_}:
                assert marker(other).encode() not in tail
                own_bits = networks[other].network_address.packed[:6]
                assert own_bits not in tail
                assert f"{networks[other].network_address}".removesuffix("::").encode() not in tail


def test_the_same_octets_from_two_environments_get_two_answers() -> None:
    """The packet cache of one is never the other's, also where both were asked the same."""
    scopes = ScopeTable(worlds.PLATFORM, worlds.BINDINGS)
    scopes.publish(worlds.compiled(worlds.production()))
    scopes.publish(worlds.compiled(worlds.staging()))
    scopes.is_loaded = True
    responder = Responder(scopes, QueryCounts())
    packet = query("a1.api")
    seen = {
        (
            source,
            responder.respond(packet, scopes.scope_of(socket.inet_aton(source), worlds.ASKED).state, Transport.UDP),
        )
        for source in (worlds.PRODUCTION_SOURCE, worlds.STAGING_SOURCE, worlds.OUTSIDE_SOURCE) * 3
    }
    assert len(seen) == 3
    assert len({reply for _, reply in seen}) == 3
