"""Random edits and environments: few names, so that edits often concern the same one."""

from __future__ import annotations

from hypothesis import strategies as st
from msgspec import UNSET

from tests import worlds
from zones.edits import (
    DeleteInstance,
    DeletePeer,
    DeleteRecord,
    DeleteService,
    Edit,
    PutInstance,
    PutPeer,
    PutRecord,
    PutService,
    SetEnabled,
    apply,
)
from zones.errors import ZonesError
from zones.keys import PublicKey
from zones.model import Environment, Port, RecordSet, State
from zones.records import RecordType

SERVICES = ["api", "db", "web", "*", "up"]  # the last two are refused
INSTANCES = ["a1", "a2", "_x", "all"]  # so are these
PEERS = ["laptop", "phone", "_x"]  # the last is refused
RECORDS = ["db", "*", "x", "*.x", "y.x", "a.b.x", "*.db", "_sip._udp", "up"]
VALUES: dict[RecordType, list[str]] = {
    "A": ["192.0.2.1", "192.0.2.2", "x"],
    "AAAA": ["2001:db8::1", "fd12:5b1e:90c4:7::7", "fd12:ffff::1"],
    "CNAME": ["api.railway.internal.", "www.example."],
    "SRV": ["1 2 3 api.railway.internal."],
    "TXT": ["hello", "x" * 300],
}

_ports = st.lists(
    st.builds(Port, st.sampled_from(["http", "dns"]), st.integers(1, 9), st.sampled_from(["tcp", "udp"])), max_size=3
).map(tuple)
_service = st.sampled_from(SERVICES)
_instance = st.sampled_from(INSTANCES)
_peer = st.sampled_from(PEERS)
_key = st.sampled_from([worlds.public_key(1), worlds.public_key(2), PublicKey("x")])
_region = st.sampled_from([None, "eu", "us"])


@st.composite
def _put_record(draw: st.DrawFn) -> PutRecord:
    rtype = draw(st.sampled_from(sorted(VALUES)))
    values = draw(st.lists(st.sampled_from(VALUES[rtype]), min_size=1, max_size=2, unique=True))
    return PutRecord(draw(st.sampled_from(RECORDS)), rtype, RecordSet(draw(st.integers(1, 60)), tuple(values)))


edits: st.SearchStrategy[Edit] = st.one_of(
    st.builds(SetEnabled, st.booleans()),
    st.builds(PutService, _service, _ports),
    st.builds(PutService, _service, rename=_service, overlap=st.sampled_from([0, 1, 5, 3600, 10**9])),
    st.builds(DeleteService, _service),
    st.builds(
        PutInstance,
        _service,
        _instance,
        st.sampled_from(State),
        st.sampled_from([None, "h1", "h2"]),
        _region,
        st.sampled_from([UNSET, True, False]),
    ),
    st.builds(PutInstance, _service, _instance, region=_region),
    st.builds(DeleteInstance, _service, _instance),
    _put_record(),
    st.builds(DeleteRecord, st.sampled_from(RECORDS), st.sampled_from(sorted(VALUES))),
    st.builds(PutPeer, _peer, _key, st.sampled_from(["h1", "h2"])),
    st.builds(PutPeer, _peer, gateway=st.sampled_from(["h1", "-"])),
    st.builds(DeletePeer, _peer),
)


@st.composite
def environments(draw: st.DrawFn, id_: str = worlds.PRODUCTION, bits: int = 0x5B1E90C4) -> Environment:
    """What a run of edits, each a second after the one before, makes of an empty environment."""
    environment = worlds.build(id_, bits)
    for step, edit in enumerate(draw(st.lists(edits, min_size=3, max_size=25))):
        try:
            environment = apply(environment, [edit], worlds.NOW + step * 1000)
        except ZonesError:
            continue
    return environment
