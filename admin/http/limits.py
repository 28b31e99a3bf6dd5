"""How much one client may use: sizes, times, and requests a second (a token bucket for each client)."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from zones.addresses import Address
from zones.errors import Invalid


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of the API, each with what it protects.

    A rate is in requests a second. A burst is the number of requests that a client which was idle may send at once.
    """

    body_bytes: int = 8 << 20
    """Octets of one request body, unpacked. Protects memory; a batch of a thousand edits is a tenth of this."""
    body_seconds: float = 5.0
    """Seconds in which a body must arrive. Protects connections from clients that send one byte now and then."""
    request_seconds: float = 10.0
    """Seconds in which a request is answered. Protects the client's wait; two time-outs of the store and some retries
    fit into it."""
    rate: float = 1000.0
    """The rate for one token. Protects all other clients; the design figure for all commits together is as high."""
    burst: float = 2000.0
    """The burst for one token."""
    anonymous_rate: float = 20.0
    """The rate for one source network without a valid token. Protects the store from a client that guesses tokens."""
    anonymous_burst: float = 100.0
    """The burst for one source network without a valid token."""
    tracked_clients: int = 10_000
    """How many clients of each sort have a bucket. Protects memory; a bucket takes some hundred octets."""


class Buckets:
    """A token bucket for each of the ``tracked_clients`` clients that sent a request last.

    A client that is dropped from the table starts again with a full bucket. This cannot be exploited: a client is
    dropped only after as many other clients have sent requests since its last one.
    """

    def __init__(self, rate: float, burst: float, tracked_clients: int) -> None:
        self._rate = rate
        self._burst = burst
        self._tracked_clients = tracked_clients
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()  # client → level, and when it had it

    def __len__(self) -> int:
        return len(self._levels)

    def take(self, client: str, now: float) -> float:
        """Takes one request from the bucket of ``client`` at ``now`` (monotonic seconds).

        Returns 0.0 if the client may go on, else the seconds until its next request will be accepted.
        """
        level, since = self._levels.pop(client, (self._burst, now))
        level = min(self._burst, level + (now - since) * self._rate)
        admitted = level >= 1.0
        self._levels[client] = (level - admitted, now)
        if len(self._levels) > self._tracked_clients:
            self._levels.popitem(last=False)
        return 0.0 if admitted else (1.0 - level) / self._rate

    def give_back(self, client: str) -> None:
        """Puts one request back into the bucket of ``client``: it was taken before it was known to be another's."""
        if found := self._levels.get(client):
            level, since = found
            self._levels[client] = (min(self._burst, level + 1.0), since)


def source_network(source: str) -> str:
    """The network that a client at ``source`` is limited by: one that has one IPv6 address has its whole /64."""
    try:
        return Address.parse(source.partition("%")[0])[:8].hex()
    except Invalid:
        return source
