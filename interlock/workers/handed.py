"""What a program with workers is started with, where a launcher has the sockets."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from resolver.sockets import SocketPair

LONGEST = 16  # octets of a message on the line to the launcher


class Incumbent(StrEnum):
    """Who answers on the sockets when a program starts, and until its own workers do."""

    NONE = "none"
    """Nobody: the program answers itself until its workers do."""
    PROGRAM = "program"
    """Another program with its workers, which is told to leave then."""
    WORKERS = "workers"
    """The workers of a program that has ended, which end then."""


@dataclass(frozen=True, slots=True)
class Handed:
    """What a program was started with by a launcher."""

    line: socket.socket
    """The line to the launcher. Workers have it open too, and go on without their program while the launcher does."""
    incumbent: Incumbent
    """Who answers until the workers of this program do."""
    is_first: bool
    """Whether the launcher has had no program before that ran, and ends if this one cannot start."""
    sockets: Sequence[Sequence[SocketPair]]
    """The sockets of each worker."""
