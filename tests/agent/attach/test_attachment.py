"""A workload as its host knows it: its names are valid, and what is made for it has names of its own."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from agent.attach.attachment import ip_netns_resolv_conf
from tests.agent.worlds import ATTACHMENT
from zones.errors import Invalid


@pytest.mark.parametrize("field", ["environment", "service", "instance", "region"])
def test_what_has_no_valid_name_cannot_be_attached(field: str) -> None:
    with pytest.raises(Invalid):
        replace(ATTACHMENT, **{field: "Not/a.name"})


def test_links_and_macs_are_always_the_same_and_told_apart() -> None:
    many = [replace(ATTACHMENT, instance=f"a{number}") for number in range(500)]
    assert ATTACHMENT.link == replace(ATTACHMENT, netns="/run/netns/w2").link
    assert len({one.link for one in many}) == len({one.macs for one in many}) == 500
    for one in many:
        assert len(one.link) <= 15
        for mac in one.macs:
            assert int(mac[:2], 16) & 0b11 == 0b10  # locally administered, and one station's


@pytest.mark.parametrize(
    ("netns", "path"),
    [
        ("/run/netns/web", "/etc/netns/web/resolv.conf"),
        ("/var/run/netns/web", "/etc/netns/web/resolv.conf"),
        ("/proc/17/ns/net", None),
        ("/run/netns/a/b", None),
    ],
)
def test_a_named_namespace_has_its_file_where_ip_netns_looks(netns: str, path: str | None) -> None:
    assert ip_netns_resolv_conf(netns) == (Path(path) if path else None)
