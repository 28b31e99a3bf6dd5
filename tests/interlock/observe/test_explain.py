"""Explanations: each case a name, and the stages by which its answer is found."""

from __future__ import annotations

from typing import Any, cast

import dns.rdatatype
import pytest
from msgspec.structs import replace

from interlock.observe.explain import explain_answer
from resolver.answer import MAX_CHAIN, answer
from resolver.wire.header import Flag
from resolver.wire.messages import Forward, Query, QueryHeader, Rcode, Reply
from tests import worlds
from tests.resolver.cases import CASES as ALL_CASES
from tests.resolver.cases import Case
from tests.resolver.messages import absolute
from zones.edits import PutRecord, apply
from zones.model import RecordSet
from zones.names import Name
from zones.nodes import Node
from zones.records import RRType
from zones.zone import Place, Zone

ZONE = worlds.compiled(worlds.production())
HERE = "railway.internal."

CASES = [
    (f"api.{HERE}", "AAAA", "NOERROR", 2, [
        ("environment", True, "production, revision"),
        ("zone", True, f"api.{HERE} is in {HERE}"),
        ("name", True, "is a service: api"),
        ("instances", True, "2 of 4 instances ready; left out: a3 (starting), a4 (draining)"),
        ("type", True, "records: AAAA"),
        ("answer", True, "NOERROR, 2 records"),
    ]),
    (f"api.{HERE}", "A", "NOERROR", 0, [
        ("type", False, "no A records, so the answer is empty (NODATA); records: AAAA"),
    ]),
    (f"empty.{HERE}", "AAAA", "NOERROR", 0, [
        ("instances", False, "0 of 0 instances ready"), ("type", False, "records: none"),
    ]),
    (f"eu.region.api.{HERE}", "AAAA", "NOERROR", 1, [
        ("instances", True, "1 of 2 instances in region eu ready; left out: a3 (starting)"),
    ]),
    (f"a3.api.{HERE}", "AAAA", "NOERROR", 1, [("name", True, "an instance of a service: api")]),
    (f"_http._tcp.api.{HERE}", "SRV", "NOERROR", 2, [("name", True, "a port of a service: api")]),
    (f"apii.{HERE}", "AAAA", "NXDOMAIN", 0, [
        ("name", False, "; there is api"), ("answer", False, "NXDOMAIN, 0 records"),
    ]),
    (f"a9.api.{HERE}", "AAAA", "NXDOMAIN", 0, [("name", False, "; there is a4.api")]),
    (f"only-here.{HERE}", "AAAA", "NXDOMAIN", 0, [("name", False, "nothing in this environment")]),
    (f"db2.{HERE}", "AAAA", "NOERROR", 3, [
        ("alias", True, f"db2.{HERE} is an alias (CNAME) of db.{HERE}"),
        ("alias", True, f"db.{HERE} is an alias (CNAME) of single.{HERE}"),
        ("name", True, "a service: single"),
        ("answer", True, "NOERROR, 3 records"),
    ]),
    (f"db2.{HERE}", "CNAME", "NOERROR", 1, [("type", True, "records: CNAME")]),
    (f"dangling.{HERE}", "AAAA", "NXDOMAIN", 1, [("name", False, f"nowhere.{HERE}")]),
    (f"loop.{HERE}", "AAAA", "SERVFAIL", 0, [("alias", False, "is there a loop?"), ("answer", False, "SERVFAIL")]),
    (f"x.apps.{HERE}", "TXT", "NOERROR", 1, [("name", True, "a wildcard record")]),
    (f"apps.{HERE}", "TXT", "NOERROR", 0, [("name", True, "an empty non-terminal"), ("type", False, "NODATA")]),
    ("api.", "AAAA", "FORWARDED", 0, [("zone", False, f"did you mean api.{HERE}?")]),
    ("www.example.com", "AAAA", "FORWARDED", 0, [
        ("zone", False, f"www.example.com. is outside {HERE}"), ("answer", True, "asks its upstreams"),
    ]),
    (f"outside.{HERE}", "AAAA", "FORWARDED", 1, [
        ("alias", True, "of www.example.com."), ("answer", True, "asks its upstreams"),
    ]),
    ("other.internal", "AAAA", "NXDOMAIN", 0, [("zone", False, "outside"), ("answer", False, "NXDOMAIN")]),
    (HERE, "SOA", "NOERROR", 1, [("name", True, "the zone itself")]),
    (f"api.{HERE}", "TYPE65", "NOERROR", 0, [("type", False, "no TYPE65 records")]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "rtype", "rcode", "records", "expected"), CASES, ids=[f"{c[0]} {c[1]}" for c in CASES]
)
def test_stages(name: str, rtype: str, rcode: str, records: int, expected: list[tuple[str, bool, str]]) -> None:
    number = int(rtype[4:]) if rtype.startswith("TYPE") else RRType[rtype]
    explained = explain_answer(ZONE, Name.parse(name), number)
    stages = explained["stages"]
    assert (explained["rcode"], len(explained["answer"])) == (rcode, records)
    assert (explained["environment"], explained["type"], explained["revision"]) == ("production", rtype, ZONE.revision)
    for stage, ok, detail in expected:
        assert any((s["stage"], s["ok"]) == (stage, ok) and detail in s["detail"] for s in stages), stages


ZONES = {
    worlds.PRODUCTION_SOURCE: ZONE,
    worlds.STAGING_SOURCE: worlds.compiled(worlds.staging()),
}


class LookUps:
    """A zone that remembers which names were looked up in it."""

    def __init__(self, zone: Zone) -> None:
        self.names: list[str] = []
        self._zone = zone

    def __getattr__(self, name: str) -> Any:
        return getattr(self._zone, name)

    def find_at(self, qname: Name, place: Place) -> Node | None:
        self.names.append(str(qname))
        return self._zone.find_at(qname, place)


def check_stages(zone: Zone, qname: Name, qtype: int) -> None:
    """The stages say what `answer` did: the names that it looked up, in order, and what it found there."""
    look_ups = LookUps(zone)
    outcome = answer(Query(QueryHeader(0, Flag.RD), qname, qtype), cast("Zone", look_ups))
    explained = explain_answer(zone, qname, qtype)
    records = outcome.chain if isinstance(outcome, Forward) else outcome.answer
    assert explained["rcode"] == ("FORWARDED" if isinstance(outcome, Forward) else outcome.rcode.name)
    assert explained["answer"] == [line for rrset in records for line in str(rrset).splitlines()]
    stages = [(stage["stage"], stage["ok"], stage["detail"]) for stage in explained["stages"]]
    named = [
        detail.partition(" called ")[2] or detail.partition(" is ")[0] for name, _, detail in stages if name == "name"
    ]
    assert [name.partition(";")[0] for name in named] == look_ups.names
    aliases = [detail for name, ok, detail in stages if name == "alias" and ok]
    followed = [rrset for rrset in records if rrset.rtype == RRType.CNAME and qtype not in (RRType.CNAME, RRType.ANY)]
    is_loop = isinstance(outcome, Reply) and outcome.rcode is Rcode.SERVFAIL
    assert any(name == "alias" and not ok for name, ok, _ in stages) == is_loop
    if is_loop:  # a loop, whose aliases are not in the answer
        assert len(aliases) == MAX_CHAIN + 1
    else:
        assert aliases == [f"{rrset.name} is an alias (CNAME) of {rrset.rdatas[0]}" for rrset in followed]
    types = [ok for name, ok, _ in stages if name == "type"]
    assert types == ([len(records) > len(followed)] if types else [])
    assert stages[-1][:2] == ("answer", isinstance(outcome, Forward) or outcome.rcode is Rcode.NOERROR)


@pytest.mark.parametrize("case", [case for case in ALL_CASES if case.source in ZONES], ids=str)
def test_the_stages_are_what_answer_did(case: Case) -> None:
    qtype = int(dns.rdatatype.from_text(case.rtype))
    check_stages(ZONES[case.source], Name.parse(absolute(case.name)), qtype)


@pytest.mark.parametrize("last", [f"single.{HERE}", f"nosuch.{HERE}", "www.example.com.", "localhost."])
@pytest.mark.parametrize("count", [MAX_CHAIN - 1, MAX_CHAIN, MAX_CHAIN + 1, MAX_CHAIN + 2])
def test_they_are_at_the_longest_chain_too(count: int, last: str) -> None:
    targets = [f"alias{number}.{HERE}" for number in range(1, count)]
    aliases = [
        PutRecord(f"alias{number}", "CNAME", RecordSet(60, (target,))) for number, target in enumerate([*targets, last])
    ]
    zone = worlds.compiled(apply(worlds.production(), aliases, worlds.NOW))
    check_stages(zone, Name.parse(f"alias0.{HERE}"), RRType.AAAA)


@pytest.mark.parametrize("name", [f"api.{HERE}", f"nosuch.{HERE}", "www.example.com.", "localhost."])
@pytest.mark.parametrize("changes", [{"enabled": False}, {"isolated": True}], ids=["disabled", "isolated"])
def test_they_are_in_a_closed_environment_too(name: str, changes: dict[str, bool]) -> None:
    check_stages(worlds.compiled(replace(worlds.production(), **changes)), Name.parse(name), RRType.AAAA)


def test_in_a_disabled_environment_no_name_is_looked_up() -> None:
    zone = worlds.compiled(replace(worlds.production(), enabled=False))
    explained = explain_answer(zone, Name.parse(f"api.{HERE}"), RRType.AAAA)
    assert explained["rcode"] == "NXDOMAIN"
    assert [(stage["stage"], stage["ok"]) for stage in explained["stages"]] == [
        ("environment", False),
        ("answer", False),
    ]
    assert "switched off" in explained["stages"][0]["detail"]


def test_no_explanation_names_what_only_another_environment_has() -> None:
    explained = explain_answer(ZONE, Name.parse(f"only-her.{HERE}"), RRType.AAAA)
    assert "only-here" not in str(explained)
