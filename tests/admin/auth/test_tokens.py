"""Tokens: how one is made and recognized, and the file of the root token."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from admin.auth import tokens
from admin.auth.tokens import load_or_create_root_token
from admin.errors import BadTokenFile


def test_tokens_differ_and_are_recognized() -> None:
    made = {tokens.make_token() for _ in range(100)}
    assert len(made) == 100
    assert all(token.startswith("ilk_") and tokens.is_well_formed(token) for token in made)
    assert len({tokens.digest(token) for token in made}) == 100


def test_made_once_and_private(tmp_path: Path) -> None:
    path = tmp_path / "admin.token"
    os.umask(os.umask(0))  # whatever the umask is, the file is for its owner alone
    token, is_new = load_or_create_root_token(path)
    assert is_new
    assert path.stat().st_mode & 0o777 == 0o600
    assert load_or_create_root_token(path) == (token, False)
    assert os.listdir(tmp_path) == ["admin.token"]


def test_made_by_many_at_once_it_is_one(tmp_path: Path) -> None:
    found: list[tuple[str, bool]] = []
    barrier = threading.Barrier(16)

    def load() -> None:
        barrier.wait()
        found.append(load_or_create_root_token(tmp_path / "admin.token"))

    threads = [threading.Thread(target=load) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({token for token, _ in found}) == 1
    assert [is_new for _, is_new in found].count(True) == 1
    assert os.listdir(tmp_path) == ["admin.token"]


GOOD = "k" * 43
BAD_FILES = [
    (GOOD, 0o644, "mode 0644.*chmod 600"),
    (GOOD, 0o640, "mode 0640"),
    ("", 0o600, "is empty: delete it"),
    ("hunter2", 0o600, "does not hold a token"),
    ("two words that are long enough to be one", 0o600, "does not hold a token"),
    ("\xff" * 43, 0o600, "does not hold a token"),
]


@pytest.mark.parametrize(("content", "mode", "said"), BAD_FILES)
def test_a_file_that_cannot_be_trusted(tmp_path: Path, content: str, mode: int, said: str) -> None:
    path = tmp_path / "admin.token"
    path.write_text(content, encoding="latin-1")
    path.chmod(mode)
    with pytest.raises(BadTokenFile, match=said) as refused:
        load_or_create_root_token(path)
    assert not content or content not in str(refused.value)


def test_a_token_that_an_operator_wrote(tmp_path: Path) -> None:
    path = tmp_path / "admin.token"
    path.write_text("0123456789abcdef0123456789abcdef")
    path.chmod(0o400)
    assert load_or_create_root_token(path) == ("0123456789abcdef0123456789abcdef", False)
