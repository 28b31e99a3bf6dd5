"""The doctor's route: the API checks what is to be examined, before anything is."""

from __future__ import annotations

import pytest

from tests.admin.api import Api

DOCTOR = "/v1/doctor"

REFUSED = [
    ("environment=Production", "environment"),
    ("environment=", "environment"),
    ("host=H1", "host"),
    ("host=", "host"),
    ("host=-h1", "host"),
    ("environment=production&host=h1.example", "host"),
    (f"host={'h' * 64}", "host"),
    ("hots=h1", "hots"),
]


async def test_what_is_asked_is_passed_on(production: Api) -> None:
    answer = await production.get(f"{DOCTOR}?environment=production&name=api&source=a1.api&host=h1")
    assert answer.status == 200
    asked = {"environment": "production", "name": "api", "source": "a1.api", "host": "h1"}
    assert answer.body == {**asked, "is_whole": True}


@pytest.mark.parametrize(("query", "field"), REFUSED)
async def test_refused_with_the_field(production: Api, query: str, field: str) -> None:
    refused = await production.get(f"{DOCTOR}?{query}")
    assert (refused.status, refused.body.get("field")) == (400, field), refused.body
