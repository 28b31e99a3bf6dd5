"""What the shells share: all that is needed to answer a packet, whichever way it came."""

from __future__ import annotations

from dataclasses import dataclass

from resolver.counts import Counts
from resolver.held import Holding, Waiting
from resolver.querylog import QueryLog
from resolver.responder import Responder
from resolver.scope import Directory


@dataclass(frozen=True, slots=True)
class Core:
    """One of each for a server."""

    directory: Directory
    responder: Responder
    holding: Holding
    waiting: Waiting
    querylog: QueryLog
    counts: Counts
