"""The enrolment token as text: read as it was printed, and nothing else is one."""

from __future__ import annotations

import pytest

from watcher.session.errors import BadToken
from watcher.session.token import EnrolmentToken

TOKEN = EnrolmentToken(b"s" * 16, b"a" * 32)


def test_a_token_is_read_as_it_was_printed() -> None:
    assert EnrolmentToken.parse(f" {TOKEN}\n") == TOKEN
    assert len(str(TOKEN)) == 68


@pytest.mark.parametrize("text", ["", "ile_", "ilk_" + str(TOKEN)[4:], str(TOKEN)[:-4], "ile_" + "ü" * 64])
def test_any_other_text_is_none_and_is_not_repeated(text: str) -> None:
    with pytest.raises(BadToken) as error:
        EnrolmentToken.parse(text)
    assert text == "" or text[4:] == "" or text not in str(error.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "one begins with ile_"),
        (f"{TOKEN}x", "it has 69 characters, and one has 68"),
        (str(TOKEN)[:-1], "it has 67 characters"),
        (str(TOKEN)[:-1] + "!", "a character in it is not one of"),
    ],
)
def test_what_is_wrong_with_it_is_said(text: str, said: str) -> None:
    with pytest.raises(BadToken, match=said):
        EnrolmentToken.parse(text)


def test_a_token_shows_no_secret_where_it_is_logged() -> None:
    assert repr(TOKEN.secret) not in repr(TOKEN)
