"""How a store is used, beside its URL."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ALL = -1


@dataclass(frozen=True, slots=True)
class StoreOptions:
    """How a store is used. Those who write leave ``replicas`` alone."""

    ca: Path | None = None
    """The file with the certificates of the authorities that may have signed the server's and the Sentinels'
    certificates, for TLS; None for those that the system trusts."""
    replicas: bool = False
    """Whether a replica will do, for those who only read. With Sentinel one is preferred to the primary."""
    wait: int = 0
    """How many replicas must have confirmed a write before it counts as made; 0 for none; `ALL` for all that the
    Sentinels hold to be up, and one at least, for any of them may be the next primary."""
    whole: bool = False
    """Whether each commit writes its environment whole, so that releases read it that know no differences."""
