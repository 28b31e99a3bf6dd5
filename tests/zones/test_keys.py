"""WireGuard public keys: which texts are keys."""

from __future__ import annotations

from base64 import b64decode, b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.worlds import public_key
from zones.errors import Invalid
from zones.keys import check_public_key

KEY = public_key(1)


@given(st.binary(min_size=32, max_size=32).filter(any))
def test_any_32_octets_but_zeros_are_a_key_in_one_form(octets: bytes) -> None:
    text = b64encode(octets).decode()
    assert check_public_key(text) == text


@given(st.binary(max_size=40).filter(lambda octets: len(octets) != 32))
def test_any_other_number_of_octets_is_no_key(octets: bytes) -> None:
    with pytest.raises(Invalid, match="not a public key"):
        check_public_key(b64encode(octets).decode())


OTHER_FORM = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAF="  # the last bits are no part of the 32 octets


BAD_KEYS = {
    "": "32 octets in base64",
    "x": "32 octets in base64",
    KEY + "\n": "32 octets",
    " " + KEY: "32 octets",
    KEY.rstrip("="): "32 octets",
    KEY + "=": "32 octets",
    OTHER_FORM: "32 octets",
    "é" * 44: "32 octets",
    "-_" * 21 + "8=": "32 octets",
    public_key(0): "all zeros",
}


@pytest.mark.parametrize(("text", "fragment"), BAD_KEYS.items())
def test_a_bad_key_is_refused_with_its_reason(text: str, fragment: str) -> None:
    with pytest.raises(Invalid, match=fragment) as refused:
        check_public_key(text)
    assert refused.value.field == "public_key"


def test_the_other_form_of_a_key_would_be_the_same_key() -> None:
    """The negative control: without the rule of one form, two hosts could have one key, each in another text."""
    assert b64decode(OTHER_FORM) == b64decode(KEY)
