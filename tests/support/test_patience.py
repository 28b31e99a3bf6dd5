"""On a busy machine is waited longer."""

from __future__ import annotations

import os

import pytest

from support.patience import LONGER, patience


@pytest.mark.parametrize(("load", "times"), [(0.1, 1.0), (2.0, 1.0), (2.1, LONGER), (50.0, LONGER)])
def test_patience_grows_with_what_waits_for_each_processor(
    load: float, times: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (load * (os.cpu_count() or 1), 0.0, 0.0))
    assert patience() == times
