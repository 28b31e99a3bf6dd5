"""What one client may take: sizes, times, and requests a second (a token bucket for each client)."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Each limit with what it protects. Rates are requests a second, bursts and ``clients`` are numbers of them."""

    body_bytes: int = 8 << 20  # memory; a batch of a thousand edits is a tenth of this
    body_seconds: float = 5.0  # connections, from those who send a byte now and then
    request_seconds: float = 10.0  # the client's patience: two time-outs of the store and some retries fit
    rate: float = 1000.0  # the other clients, from one token; the design figure for all commits is as high
    burst: float = 2000.0
    stranger_rate: float = 20.0  # the store, from one address that tries tokens
    stranger_burst: float = 100.0
    clients: int = 10_000  # memory; some hundred octets each


class Buckets:
    """A token bucket for each client, of which at most ``clients`` are remembered: the latest ones.

    One that is forgotten starts anew with a full bucket. That helps nobody: to be forgotten, as many others must
    have come since.
    """

    def __init__(self, rate: float, burst: float, clients: int) -> None:
        self._rate = rate
        self._burst = burst
        self._clients = clients
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()  # client → level, as of when

    def __len__(self) -> int:
        return len(self._levels)

    def take(self, client: str, now: float) -> float:
        """0.0 where ``client`` may go ahead at ``now`` (monotonic seconds), else the seconds it has to wait."""
        level, since = self._levels.pop(client, (self._burst, now))
        level = min(self._burst, level + (now - since) * self._rate)
        admitted = level >= 1.0
        self._levels[client] = (level - admitted, now)
        if len(self._levels) > self._clients:
            self._levels.popitem(last=False)
        return 0.0 if admitted else (1.0 - level) / self._rate
