"""Custom records: set, shown, listed, deleted; and what may not be set."""

from __future__ import annotations

from typing import Any

import pytest

from tests.admin.api import Api, E

SETS: list[tuple[str, str, list[str]]] = [
    ("v4", "A", ["192.0.2.1", "192.0.2.2"]),
    ("v6", "AAAA", ["2001:db8::1"]),
    ("alias", "CNAME", ["api.railway.internal."]),
    ("*.preview", "TXT", ['any text: ü, "quotes"']),
    ("_sip._udp.phone", "SRV", ["1 2 5060 api.railway.internal."]),
]


@pytest.mark.parametrize(("name", "rtype", "values"), SETS)
async def test_set_shown_and_deleted(api: Api, name: str, rtype: str, values: list[str]) -> None:
    await api.put(E, {})
    path = f"{E}/records/{name}/{rtype}"
    made = await api.put(path, {"ttl": 60, "values": values})
    assert made.status == 201, made
    assert made.body == {"name": name, "type": rtype, "ttl": 60, "values": values, "revision": 2}
    assert (await api.put(path, {"ttl": 60, "values": values})).body["revision"] == 2
    assert (await api.put(path, {"ttl": 30, "values": values})).body["revision"] == 3
    assert (await api.get(path)).body["ttl"] == 30
    assert (await api.delete(path)).revision == 4
    assert (await api.get(path)).problem == "missing"
    assert (await api.delete(path)).problem == "missing"


REFUSED: list[tuple[str, str, dict[str, Any], int, str | None]] = [
    ("v4", "A", {"ttl": 60, "values": ["192.0.2.1", "nonsense"]}, 400, "values[1]"),
    ("v4", "AAAA", {"ttl": 60, "values": ["::ffff:192.0.2.1"]}, 400, "values[0]"),
    ("v6", "AAAA", {"ttl": 60, "values": ["fd12::1"]}, 400, "values"),
    ("x", "CNAME", {"ttl": 60, "values": ["relative"]}, 400, "values[0]"),
    ("x", "CNAME", {"ttl": 60, "values": ["a.example.", "b.example."]}, 400, "values"),
    ("x", "SRV", {"ttl": 60, "values": ["1 2 3"]}, 400, "values[0]"),
    ("x", "A", {"ttl": 0, "values": ["192.0.2.1"]}, 400, "ttl"),
    ("x", "A", {"ttl": 60, "values": []}, 400, "values"),
    ("x", "A", {"ttl": 60, "values": ["192.0.2.1", "192.0.2.1"]}, 400, "values"),
    ("x", "A", {"ttl": 60}, 400, "values"),
    ("x", "MX", {"ttl": 60, "values": ["mail.example."]}, 400, "type"),
    ("X", "A", {"ttl": 60, "values": ["192.0.2.1"]}, 400, "name"),
    ("a..b", "A", {"ttl": 60, "values": ["192.0.2.1"]}, 400, "name"),
    ("a.*", "A", {"ttl": 60, "values": ["192.0.2.1"]}, 400, "name"),
    ("health", "A", {"ttl": 60, "values": ["192.0.2.1"]}, 400, "name"),
    (r"\097", "A", {"ttl": 60, "values": ["192.0.2.1"]}, 400, "name"),
    ("x", "CNAME", {"ttl": 60, "values": ["X.railway.internal."]}, 400, "values"),  # itself
    ("db", "A", {"ttl": 60, "values": ["192.0.2.1"]}, 409, "type"),  # there is a CNAME
    ("x.api", "A", {"ttl": 60, "values": ["192.0.2.1"]}, 409, "records.name"),  # belongs to the service
]


@pytest.mark.parametrize(("name", "rtype", "body", "status", "field"), REFUSED)
async def test_refused_with_the_field(
    production: Api, name: str, rtype: str, body: dict[str, Any], status: int, field: str
) -> None:
    refused = await production.put(f"{E}/records/{name}/{rtype}", body)
    assert (refused.status, refused.body.get("field")) == (status, field), refused.body
    assert (await production.get(E)).body["revision"] == 4


async def test_listed_by_page(production: Api) -> None:
    for rtype, value in (("TXT", "text"), ("A", "192.0.2.1")):
        await production.put(f"{E}/records/mixed/{rtype}", {"ttl": 5, "values": [value]})
    first = (await production.get(f"{E}/records?limit=2")).body
    assert [(each["name"], each["type"]) for each in first["records"]] == [("db", "CNAME"), ("mixed", "A")]
    assert first["next"] == "mixed/A"
    last = (await production.get(f"{E}/records?limit=2&after={first['next']}")).body
    assert ([(each["name"], each["type"]) for each in last["records"]], last["next"]) == ([("mixed", "TXT")], None)
