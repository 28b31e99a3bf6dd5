"""The values of settings as text, where that is not tested by reading a setting."""

from __future__ import annotations

import pytest

from interlock.settings.values import parse_qname
from zones.names import Name


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("api", "api.railway.internal."),
        ("api.", "api."),
        ("a1.api", "a1.api."),
        ("api.railway.internal", "api.railway.internal."),
        (".", "."),
    ],
)
def test_a_single_label_is_below_the_zone(text: str, expected: str) -> None:
    assert str(parse_qname(text, Name.parse("railway.internal"))) == expected
