"""What somebody asks about a host. A value."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from zones.names import EnvironmentId


@dataclass(frozen=True, slots=True)
class Question:
    """What somebody asks about; with nothing set, the whole host."""

    environment: EnvironmentId | None = None
    """The environment that it is about."""
    has_document: bool = False
    """Whether whoever asks has the document of the environment already."""
    service: str | None = None
    """The service whose instances are looked at."""
    instance: str | None = None
    """The one instance that is looked at."""
    netns: str | None = None
    """The path of the network namespace whose workload is looked at."""
    source: str | None = None
    """The workload of this host that connects: its address, ``INSTANCE.SERVICE``, or its service. None: any."""
    target: str | None = None
    """What it connects to, in the same way. None: the service that was asked about."""
    port: int | None = None
    """The port to connect to. None: those of the service."""
    attaches: int = 0
    """How many of the last attaches are asked for, instead of all else."""
    links: bool = False
    """Whether the links with other hosts are asked for, instead of all else."""


def encode_question(question: Question) -> str:
    """``question`` as JSON."""
    return msgspec.json.encode(question).decode()
