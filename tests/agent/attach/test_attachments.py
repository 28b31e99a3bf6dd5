"""The attachments on a host's disk: found again whatever killed the agent, and told apart."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from msgspec.structs import replace

from agent.attach.attachments import Attachment, Attachments, Phase
from agent.errors import Failed
from tests.agent.worlds import address
from zones.errors import Invalid
from zones.names import EnvironmentId

ONE = Attachment(
    EnvironmentId("e1"), "api", "a1", "/run/netns/w1", "railnet0", Phase.ATTACHED, address(1, 1), container="c1"
)


def loaded(directory: Path) -> Attachments:
    attachments = Attachments(directory)
    attachments.load()
    return attachments


async def test_what_was_put_is_there_after_a_restart(tmp_path: Path) -> None:
    first = loaded(tmp_path)
    await first.put(ONE)
    changed = await first.change(ONE, phase=Phase.DETACHING, resolv_conf_before="nameserver 192.0.2.1\n")
    assert list(loaded(tmp_path)) == [changed]
    assert loaded(tmp_path).get(ONE.key) == changed


async def test_what_was_removed_is_gone(tmp_path: Path) -> None:
    first = loaded(tmp_path)
    await first.put(ONE)
    await first.remove(ONE)
    await first.remove(ONE)
    assert len(loaded(tmp_path)) == 0


async def test_its_container_leads_to_it(tmp_path: Path) -> None:
    attachments = loaded(tmp_path)
    await attachments.put(ONE)
    assert attachments.of_container("c1") == ONE
    assert attachments.of_container("c2") is None


async def test_a_file_that_cannot_be_read_is_left_where_it_is_and_the_others_are_read(tmp_path: Path) -> None:
    await loaded(tmp_path).put(ONE)
    broken = tmp_path / "e1.api.a2.json"
    broken.write_text('{"environment": "e1", "ser')
    foreign = tmp_path / "e1.api.a3.json"
    foreign.write_text(json.dumps({"environment": "E!", "service": "api"}))
    assert list(loaded(tmp_path)) == [ONE]
    assert broken.exists()
    assert foreign.exists()


async def test_what_a_killed_agent_left_half_written_does_not_count(tmp_path: Path) -> None:
    await loaded(tmp_path).put(ONE)
    (tmp_path / "e1.api.a2.part").write_text("{")
    assert list(loaded(tmp_path)) == [ONE]


async def test_a_full_disk_is_an_error_and_what_was_there_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    attachments = loaded(tmp_path)
    await attachments.put(ONE)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(Failed, match="No space left on device"):
        await attachments.put(replace(ONE, instance="a2"))
    assert list(loaded(tmp_path)) == [ONE]
    assert attachments.get(ONE.key) == ONE


@pytest.mark.parametrize("field", ["environment", "service", "instance", "region"])
def test_what_has_no_valid_name_cannot_be_attached(field: str) -> None:
    with pytest.raises(Invalid):
        replace(ONE, **{field: "Not/a.name"})


def test_links_and_macs_are_always_the_same_and_told_apart() -> None:
    many = [replace(ONE, instance=f"a{number}") for number in range(500)]
    assert ONE.link == replace(ONE, netns="/run/netns/w2").link
    assert len({one.link for one in many}) == len({one.macs for one in many}) == 500
    for one in many:
        assert len(one.link) <= 15
        for mac in one.macs:
            assert int(mac[:2], 16) & 0b11 == 0b10  # locally administered, and one station's
