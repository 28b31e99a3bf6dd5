"""Explanations: each case a name, and what is said at the stages on the way to its answer."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from interlock.observe.explain import Explainer, explain_answer
from store.store import Store
from tests import worlds
from zones.errors import Invalid, Missing
from zones.names import Name
from zones.records import RRType

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
    told = explain_answer(ZONE, Name.parse(name), number)
    stages = told["stages"]
    assert (told["rcode"], len(told["answer"])) == (rcode, records)
    assert (told["environment"], told["type"], told["revision"]) == ("production", rtype, ZONE.revision)
    for stage, ok, detail in expected:
        assert any((s["stage"], s["ok"]) == (stage, ok) and detail in s["detail"] for s in stages), stages


def test_a_disabled_environment_ends_the_way_at_once() -> None:
    zone = worlds.compiled(replace(worlds.production(), enabled=False))
    told = explain_answer(zone, Name.parse(f"api.{HERE}"), RRType.AAAA)
    assert told["rcode"] == "NXDOMAIN"
    assert [(stage["stage"], stage["ok"]) for stage in told["stages"]] == [("environment", False), ("answer", False)]
    assert "switched off" in told["stages"][0]["detail"]


def test_no_explanation_names_what_only_another_environment_has() -> None:
    told = explain_answer(ZONE, Name.parse(f"only-her.{HERE}"), RRType.AAAA)
    assert "only-here" not in str(told)


async def test_explanations_come_from_the_store(store: Store) -> None:
    explainer = Explainer(store, worlds.PLATFORM)
    qname = Name.parse(f"api.{HERE}")
    with pytest.raises(Missing, match="there is no environment 'production'"):
        await explainer.explain(worlds.PRODUCTION, qname, "AAAA")
    await store.environments.commit(worlds.production(), 0)
    assert (await explainer.explain(worlds.PRODUCTION, qname, "aaaa"))["rcode"] == "NOERROR"
    with pytest.raises(Invalid, match="'NONSENSE' is not a record type"):
        await explainer.explain(worlds.PRODUCTION, qname, "NONSENSE")
