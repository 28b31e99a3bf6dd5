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


def test_a_token_shows_no_secret_where_it_is_logged() -> None:
    assert repr(TOKEN.secret) not in repr(TOKEN)
