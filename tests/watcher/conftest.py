"""Settings that make the watcher act quickly."""

from __future__ import annotations

import pytest

from store import changes
from watcher import watcher


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A watcher that compares ten times a second, and waits for changes no longer than that."""
    monkeypatch.setattr(watcher, "COMPARE_EVERY", 0.1)
    monkeypatch.setattr(changes, "CHANGES_WAIT", 0.1)
