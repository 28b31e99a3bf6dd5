"""The workload's resolv.conf: written whole where ip-netns(8) looks for it, and restored."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.errors import Failed
from agent.system import resolv_conf
from tests.agent.worlds import PLATFORM

TEXT = resolv_conf.render(PLATFORM)


def test_it_names_one_resolver_and_where_to_search() -> None:
    assert TEXT == "nameserver fd12::10\nsearch railway.internal\noptions ndots:1\n"


def test_what_was_there_before_is_put_back(tmp_path: Path) -> None:
    path = tmp_path / "web" / "resolv.conf"
    assert resolv_conf.read(path) is None
    resolv_conf.write(path, "nameserver 192.0.2.1\n")
    before = resolv_conf.read(path)
    resolv_conf.write(path, TEXT)
    assert (before, path.read_text(), path.stat().st_mode & 0o777) == ("nameserver 192.0.2.1\n", TEXT, 0o644)
    resolv_conf.restore(path, TEXT, before)
    assert path.read_text() == before
    assert [one.name for one in path.parent.iterdir()] == ["resolv.conf"]


def test_what_was_not_there_before_is_gone_again(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    resolv_conf.write(path, TEXT)
    resolv_conf.restore(path, TEXT, None)
    resolv_conf.restore(path, TEXT, None)
    assert not path.exists()


def test_what_a_killed_agent_was_writing_is_removed(tmp_path: Path) -> None:
    path, partial = tmp_path / "resolv.conf", tmp_path / ".resolv.conf.0123456789ab"
    partial.touch()
    resolv_conf.write(path, TEXT)
    assert not partial.exists()
    partial.touch()
    resolv_conf.restore(path, TEXT, None)
    assert list(tmp_path.iterdir()) == []


def test_what_somebody_else_has_written_since_stays(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    resolv_conf.write(path, TEXT)
    path.write_text("nameserver 198.51.100.1\n")
    resolv_conf.restore(path, TEXT, None)
    assert path.read_text() == "nameserver 198.51.100.1\n"


def test_where_nothing_can_be_written_the_error_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Failed, match="--resolv-conf"):
        resolv_conf.write(tmp_path / "file" / "resolv.conf", TEXT)


def test_a_folder_of_ip_netns_that_is_sticky_does_for_writing_and_for_restoring(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resolv_conf, "_IP_NETNS", tmp_path)
    tmp_path.chmod(0o1777)
    path = tmp_path / "web" / "resolv.conf"
    resolv_conf.write(path, TEXT)
    resolv_conf.restore(path, TEXT, None)
    assert list(tmp_path.iterdir()) == []
