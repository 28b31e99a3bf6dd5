"""The write probe: a process that writes is not ready while its store answers and takes no writes."""

from __future__ import annotations

import logging

import pytest

from admin.resources.operations import Probe
from interlock.observe.readiness import Readiness, writes_taken
from interlock.parts import write_probe
from interlock.parts.write_probe import WriteProbe
from interlock.process.supervise import Supervisor
from tests.store.servers import StartServer, opened, redis_of
from tests.waiting import until


async def test_it_knows_whether_the_store_takes_writes(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(write_probe, "ASK_EVERY", 0.01)
    server = await start_server()
    async with opened(server.url) as store, redis_of(server.url) as redis:
        probe = WriteProbe(store)
        supervisor = Supervisor([probe.part])
        readiness = Readiness(supervisor, writes_taken(probe))
        await supervisor.start()
        try:
            assert readiness() == {"store_writes": Probe(True)}
            await redis.config_set("maxmemory", 1)
            await until(lambda: not readiness()["store_writes"].ok)
            assert "its memory is full" in readiness()["store_writes"].reason
            await redis.config_set("maxmemory", 0)
            await until(lambda: readiness()["store_writes"].ok)
            server.kill()  # which others report
            await until(lambda: not probe.obstacle)
        finally:
            await supervisor.stop()
    events = [record.getMessage() for record in caplog.records if record.name == write_probe.__name__]
    assert events == ["store_takes_no_writes", "store_takes_writes"]
