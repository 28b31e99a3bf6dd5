"""The host's key pair: what WireGuard's own tool makes of it, and the files that it is kept in."""

from __future__ import annotations

import os
import shutil
import subprocess
from base64 import b64encode
from pathlib import Path

import pytest

from agent import keys
from agent.errors import CannotStart
from agent.keys import KEY, NEXT_KEY, Keyring, PrivateKey

needs_wg = pytest.mark.skipif(not shutil.which("wg"), reason="no wg: install the package wireguard-tools")


@needs_wg
def test_a_public_key_is_the_one_that_wg_computes() -> None:
    for key in (PrivateKey.generate() for _ in range(10)):
        printed = subprocess.run(["wg", "pubkey"], input=key.text, capture_output=True, text=True, check=True)
        assert printed.stdout.strip() == key.public


@needs_wg
def test_a_key_that_wg_made_can_be_read() -> None:
    made = subprocess.run(["wg", "genkey"], capture_output=True, text=True, check=True).stdout
    assert PrivateKey.parse(made).text == made.strip()


def test_a_private_key_does_not_show_itself() -> None:
    key = PrivateKey.generate()
    assert key.text not in repr(key)
    assert key.octets.hex() not in repr(key)


@pytest.mark.parametrize("text", ["", "short", "!" * 44, b64encode(bytes(31)).decode()])
def test_what_is_no_key_is_refused_without_being_repeated(text: str) -> None:
    with pytest.raises(ValueError, match="private key") as refused:
        PrivateKey.parse(text)
    assert not text or text not in str(refused.value)


def test_a_key_is_made_once_and_for_this_user_alone(tmp_path: Path) -> None:
    path = tmp_path / "wireguard.key"
    first = keys.load_or_make(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert keys.load_or_make(path) == first
    assert [one.name for one in tmp_path.iterdir()] == ["wireguard.key"]


def test_a_key_that_others_can_read_is_not_used(tmp_path: Path) -> None:
    path = tmp_path / "wireguard.key"
    keys.load_or_make(path)
    path.chmod(0o644)
    with pytest.raises(CannotStart, match="chmod 600"):
        keys.load_or_make(path)


def test_a_broken_key_is_not_replaced_unasked(tmp_path: Path) -> None:
    path = tmp_path / "wireguard.key"
    path.write_text("half a k")
    path.chmod(0o600)
    with pytest.raises(CannotStart, match="remove it"):
        keys.load_or_make(path)
    assert path.read_text() == "half a k"


def test_a_key_that_cannot_be_kept_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CannotStart, match="cannot be kept"):
        keys.load_or_make(tmp_path / "missing" / "wireguard.key")


def test_what_a_killed_agent_left_half_written_is_no_obstacle(tmp_path: Path) -> None:
    path = tmp_path / "wireguard.key"
    os.close(os.open(tmp_path / ".wireguard.key.0123456789ab", os.O_CREAT, 0o600))
    keys.load_or_make(path)
    assert keys.load(path)


def test_the_keys_go_with_the_host(tmp_path: Path) -> None:
    keyring = Keyring(tmp_path)
    keyring.load()
    keyring.prepare()
    keyring.remove()
    keyring.remove()
    assert not {KEY, NEXT_KEY} & {one.name for one in tmp_path.iterdir()}


def test_a_key_that_was_being_written_when_the_agent_was_killed_is_removed(tmp_path: Path) -> None:
    for name in (KEY, NEXT_KEY):
        (tmp_path / f".{name}.0123456789ab").write_text(PrivateKey.generate().text)
    Keyring(tmp_path).load()
    assert os.listdir(tmp_path) == [KEY]
