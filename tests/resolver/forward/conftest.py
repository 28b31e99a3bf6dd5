"""What every test here also proves: nothing goes wrong unnoticed in the event loop."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from resolver.forward import forwarder, pool
from tests.resolver.forward import shell
from tests.resolver.forward.liar import SLOW
from tests.waiting import DEADLINE

OF_THE_LIAR = (
    "Error on transport creation for incoming connection"  # a handshake that we break off, as its server sees it
)


@pytest.fixture(autouse=True)
def no_silent_errors(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """asyncio logs exceptions that were not retrieved, and tasks that were never awaited."""
    yield
    errors = [
        record.getMessage()
        for when in ("setup", "call")
        for record in caplog.get_records(when)
        if record.levelno >= logging.ERROR and OF_THE_LIAR not in record.getMessage()
    ]
    assert not errors


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """No client is told of a failure, and no upstream asked again, because other processes had the processor.

    How long an answer took without that is looked at all the same; see `shell.Client`.
    """
    assert SLOW < forwarder.RESPONSE_TIMER < shell.WITHIN
    monkeypatch.setattr(forwarder, "RESPONSE_TIMER", DEADLINE)
    monkeypatch.setattr(pool, "RETRY", DEADLINE)
    monkeypatch.setattr(pool, "SILENCE", DEADLINE)
