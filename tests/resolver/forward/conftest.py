"""What every test here also proves: nothing goes wrong unnoticed in the event loop."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

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
