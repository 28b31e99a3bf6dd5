"""What a part of a process may take of the files that it may open."""

from __future__ import annotations

import resource

import pytest

from admin.hosts.limits import SHARE_OF_FILES, HostLimits
from support.descriptors import share_of_files


@pytest.mark.parametrize(
    ("files", "expected"), [(resource.RLIM_INFINITY, 5000), (100_000, 5000), (1024, 512), (1, 1), (0, 1)]
)
def test_a_share_of_the_files(files: int, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _which: (files, files))
    assert share_of_files(5000, SHARE_OF_FILES) == expected
    assert HostLimits().connections == expected
