"""The attachments on a host's disk: found again whatever killed the agent, and told apart."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from msgspec.structs import replace

from agent.attach.attachment import Phase
from agent.attach.attachments import Attachments
from agent.errors import Failed
from tests.agent.worlds import ATTACHMENT


def loaded(directory: Path) -> Attachments:
    attachments = Attachments(directory)
    attachments.load()
    return attachments


async def test_what_was_put_is_there_after_a_restart(tmp_path: Path) -> None:
    first = loaded(tmp_path)
    await first.put(ATTACHMENT)
    changed = await first.change(ATTACHMENT, phase=Phase.DETACHING, resolv_conf_before="nameserver 192.0.2.1\n")
    assert list(loaded(tmp_path)) == [changed]
    assert loaded(tmp_path).get(ATTACHMENT.key) == changed


async def test_what_is_begun_is_kept_as_it_was_completed(tmp_path: Path) -> None:
    first = loaded(tmp_path)
    begun = await first.begin(ATTACHMENT, lambda one: replace(one, region="us"))
    first.flush(begun)
    assert begun == replace(ATTACHMENT, region="us") == first.get(ATTACHMENT.key)
    assert list(loaded(tmp_path)) == [begun]


async def test_what_cannot_be_flushed_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    attachments = loaded(tmp_path)
    begun = await attachments.begin(ATTACHMENT, lambda one: one)
    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(Failed, match="cannot be kept: Input/output error"):
        attachments.flush(begun)


async def test_what_was_removed_is_gone(tmp_path: Path) -> None:
    first = loaded(tmp_path)
    await first.put(ATTACHMENT)
    await first.remove(ATTACHMENT)
    await first.remove(ATTACHMENT)
    assert len(loaded(tmp_path)) == 0


async def test_what_was_being_written_when_the_agent_was_killed_is_removed(tmp_path: Path) -> None:
    (tmp_path / f".{ATTACHMENT.key}.json.0123456789ab").write_text("{")
    assert len(loaded(tmp_path)) == 0
    assert os.listdir(tmp_path) == []


async def test_its_container_leads_to_it(tmp_path: Path) -> None:
    attachments = loaded(tmp_path)
    await attachments.put(ATTACHMENT)
    assert attachments.of_container("c1") == ATTACHMENT
    assert attachments.of_container("c2") is None


async def test_a_file_that_cannot_be_read_is_left_where_it_is_and_the_others_are_read(tmp_path: Path) -> None:
    await loaded(tmp_path).put(ATTACHMENT)
    broken = tmp_path / "e1.api.a2.json"
    broken.write_text('{"environment": "e1", "ser')
    foreign = tmp_path / "e1.api.a3.json"
    foreign.write_text(json.dumps({"environment": "E!", "service": "api"}))
    folder = tmp_path / "e1.api.a4.json"
    folder.mkdir()
    loop = tmp_path / "e1.api.a5.json"
    loop.symlink_to(loop)
    attachments = loaded(tmp_path)
    assert list(attachments) == [ATTACHMENT]
    assert attachments.unreadable == {"e1.api.a2", "e1.api.a3", "e1.api.a4", "e1.api.a5"}
    assert broken.exists()
    assert foreign.exists()


async def test_what_a_killed_agent_left_half_written_does_not_count(tmp_path: Path) -> None:
    await loaded(tmp_path).put(ATTACHMENT)
    (tmp_path / ".e1.api.a2.json.0123456789ab").write_text("{")
    assert list(loaded(tmp_path)) == [ATTACHMENT]


async def test_a_full_disk_is_an_error_and_what_was_there_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    attachments = loaded(tmp_path)
    await attachments.put(ATTACHMENT)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(Failed, match="No space left on device"):
        await attachments.put(replace(ATTACHMENT, instance="a2"))
    assert list(loaded(tmp_path)) == [ATTACHMENT]
    assert attachments.get(ATTACHMENT.key) == ATTACHMENT
