"""How much the agents of hosts may use, and those who only say that they are agents."""

from __future__ import annotations

from dataclasses import dataclass, field

from support.descriptors import share_of_files

MOST_CONNECTIONS = 5_000
SHARE_OF_FILES = 0.5  # the API has an eighth


@dataclass(frozen=True, slots=True)
class HostLimits:
    """The limits of the listener for agents, each with what it protects. Rates are a second."""

    connections: int = field(default_factory=lambda: share_of_files(MOST_CONNECTIONS, SHARE_OF_FILES))
    """Connections in all. Protects descriptors and memory; one takes about 100 KiB, and 1,000 hosts are the design
    figure. Fewer where the process may open few files: the others are for the API, DNS, upstreams and the store."""
    strangers: int = 500
    """Connections without a session. Protects those of the hosts: whoever has no certificate fills only these."""
    strangers_of_one: int = 50
    """Connections without a session from one source network."""
    stranger_seconds: float = 10.0
    """Seconds after which a connection without a session ends: it can have enrolled by then, however slow its line."""
    handshakes: float = 100.0
    """The rate of connections from one source network. Protects the CPU: a handshake of TLS takes about 2 ms."""
    handshake_burst: float = 500.0
    """The burst of connections from one source network."""
    enrolments: float = 5.0
    """The rate of enrolments from one source network. Protects the store from one who guesses tokens."""
    enrolment_burst: float = 50.0
    """The burst of enrolments from one source network."""
    sessions: int = 4
    """Sessions of one host at a time: of its agent, of the one before it, and of copies that the lease refuses."""
    waiting: int = 2_000
    """Requests of one session that wait for other hosts: each takes a few hundred octets."""
    at_once: int = 64
    """Other requests of one session that are worked on at once. More are read only when one of them is done."""
    rate: float = 500.0
    """The rate of requests of one session; one of many octets counts as several. Protects the store and all others."""
    burst: float = 2_000.0
    """The burst of requests of one session."""
    octets_a_request: int = 2_048
    """The octets that count as one request."""
    send_seconds: float = 30.0
    """Seconds in which an agent must have read what it was sent. Protects memory; it gets the newest state later."""
