"""Explanations: the API checks the question, and the resolver explains."""

from __future__ import annotations

import pytest

from tests.admin.api import Api

EXPLAIN = "/v1/explain"


async def test_a_question_is_passed_on_and_the_explanation_shown(production: Api) -> None:
    for query in ("name=API.railway.internal&type=srv", "name=api.railway.internal."):
        answer = await production.get(f"{EXPLAIN}?environment=production&{query}")
        assert (answer.status, answer.body) == (200, {"rcode": "NOERROR", "stages": []})
    assert production.asked == [
        ("production", "api.railway.internal.", "SRV"),
        ("production", "api.railway.internal.", "AAAA"),
    ]


REFUSED = [
    ("environment=nosuch&name=x.", 404, "environment"),
    ("name=x.", 400, "environment"),
    ("environment=production", 400, "name"),
    ("environment=production&name=a..b", 400, "name"),
    ("environment=Production&name=x.", 400, "environment"),
    ("environment=production&name=x.&type=no%20type", 400, "type"),
    ("environment=production&name=x.&tpye=A", 400, "tpye"),
    ("environment=production&environment=staging&name=x.", 400, "environment"),
]


@pytest.mark.parametrize(("query", "status", "field"), REFUSED)
async def test_refused_with_the_field(production: Api, query: str, status: int, field: str) -> None:
    refused = await production.get(f"{EXPLAIN}?{query}")
    assert (refused.status, refused.body["field"]) == (status, field), refused.body
    assert production.asked == []
