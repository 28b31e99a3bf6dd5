"""Who this host is: its key, and what it has told the others about itself."""

from __future__ import annotations

from dataclasses import dataclass

from agent.keys import PrivateKey
from support.endpoints import Endpoint
from zones.hosts import Host


@dataclass(slots=True)
class Identity:
    """The host as it is registered, and its private key. Both are replaced whole: the key by rotation."""

    host: Host
    key: PrivateKey

    @property
    def id(self) -> str:
        """What instances call this host."""
        return self.host.id

    @property
    def port(self) -> int:
        """The UDP port of its WireGuard."""
        return Endpoint.parse(self.host.endpoint).port

    @property
    def underlay(self) -> str:
        """Its address on the underlay."""
        return Endpoint.parse(self.host.endpoint).host
