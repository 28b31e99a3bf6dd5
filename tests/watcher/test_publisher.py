"""From documents to zones: queries do not wait for all of it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from support.breaks import Breaks
from tests import worlds
from tests.watcher.harness import Recorder
from tests.worlds import PLATFORM
from watcher.publisher import ServedZones
from zones import document, zone
from zones.edits import PutService


async def test_a_query_is_answered_after_a_document_is_decoded_and_before_it_is_compiled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done = list[str]()

    def noted(*given: Any) -> Any:
        done.append("compiled")
        return zone.compile_zone(*given)

    monkeypatch.setattr("watcher.publisher.compile_zone", noted)
    asyncio.get_running_loop().call_soon(done.append, "answered")
    written = worlds.build("production", 1, PutService("api"))
    made = await ServedZones(PLATFORM, Recorder()).compile(written.id, document.encode(written), breaks=Breaks(-1.0))
    assert made is not None
    assert made.environment == written
    assert done == ["answered", "compiled"]
