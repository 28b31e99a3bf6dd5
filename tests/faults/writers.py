"""Writers that know what was acknowledged to them, and find out after each failure what is there."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from interlock.client import Client
from interlock.errors import ApiRefused, ApiUnreachable
from tests.interlock.processes import DEADLINE

AGAIN = 0.05  # seconds until an API that does not answer is asked again
RECORDS = 3  # of each writer: all of them are set by one commit, to one number


@dataclass
class Writer:
    """Sets its own records of an environment to 1, then to 2, and so on, all of them in one commit each.

    Whatever happens, the environment must hold one number that is not below the newest that was acknowledged, and not
    above the newest that was sent; and the same number in each of the records.
    """

    client: Client
    environment: str
    name: str
    """What its records begin with."""
    sent: int = 0
    """The newest number that was sent."""
    acknowledged: int = 0
    """The newest number that was acknowledged, or was read after a failure."""
    sent_at: float = 0.0
    """When the newest number that was acknowledged was sent, in monotonic seconds."""
    writes: int = 0
    """How many writes were acknowledged."""
    failures: int = 0
    """How many writes were not."""
    found: int = 0
    """How many of those had been made all the same."""
    faults: list[str] = field(default_factory=list)
    """What must not be."""

    def write_until(self, end: threading.Event) -> None:
        while not end.is_set():
            try:
                self._write()
            except (ApiRefused, ApiUnreachable) as error:
                if is_fault(error):
                    self.faults.append(f"{self.name}: {error}")
                self.failures += 1
                self.check(end)

    def _write(self) -> None:
        self.sent += 1
        sent_at = time.monotonic()
        edits = [
            {"op": "put-record", "name": f"{self.name}-{one}", "type": "TXT", "ttl": 5, "values": [str(self.sent)]}
            for one in range(RECORDS)
        ]
        self.client.post("environments", self.environment, "batch", body={"edits": edits})
        self.writes += 1
        self.acknowledged, self.sent_at = self.sent, sent_at

    def check(self, end: threading.Event | None = None) -> None:
        """Compares what the environment holds with what was acknowledged, as soon as the API answers.

        With ``end``, it waits for that until ``end`` is set; without, for as long as tests do.
        """
        deadline = time.monotonic() + DEADLINE
        while True:
            try:
                records = self.client.get("environments", self.environment)["records"]
                break
            except (ApiRefused, ApiUnreachable) as error:
                if end and end.is_set():
                    return
                if is_fault(error) or (not end and time.monotonic() > deadline):
                    self.faults.append(f"{self.name}: the API did not come back: {error}")
                    return
                time.sleep(AGAIN)
        self._judge([record["values"] for record in records if record["name"].startswith(f"{self.name}-")])

    def _judge(self, values: Sequence[Sequence[str]]) -> None:
        numbers = [int(one) for value in values for one in value] or [0] * RECORDS
        if len(set(numbers)) > 1 or len(numbers) != RECORDS:
            self.faults.append(f"{self.name}: half of a commit is there: {numbers}")
        elif not self.acknowledged <= numbers[0] <= self.sent:
            self.faults.append(
                f"{self.name}: {numbers[0]} is there, {self.acknowledged} was acknowledged, {self.sent} sent"
            )
        else:
            self.found += numbers[0] > self.acknowledged
            self.acknowledged = numbers[0]


def is_fault(error: Exception) -> bool:
    """Whether ``error`` is more than an API or a store that is away."""
    return isinstance(error, ApiRefused) and error.status != 503


def make_writers(client: Client, environments: Sequence[str], each: int) -> list[Writer]:
    """``each`` writers for each of ``environments``, which are made."""
    for environment in environments:
        client.put("environments", environment, body={})
    return [Writer(client, environment, f"w{number}") for environment in environments for number in range(each)]


@contextmanager
def writing(writers: Sequence[Writer]) -> Iterator[None]:
    """All of ``writers`` write, each in a thread of its own, while the block runs."""
    end = threading.Event()
    threads = [threading.Thread(target=writer.write_until, args=(end,)) for writer in writers]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        end.set()
        for thread in threads:
            thread.join()


def summary(writers: Sequence[Writer]) -> dict[str, int]:
    """What all of them have counted."""
    return {name: sum(getattr(writer, name) for writer in writers) for name in ("writes", "failures", "found")}
