"""What the UDP and the TCP listeners of one server share."""

from __future__ import annotations

from dataclasses import dataclass

from resolver.counts import QueryCounts
from resolver.net.connections import Connections
from resolver.net.held import HeldQueries, ReplyTasks
from resolver.net.turns import Turns
from resolver.querylog import QueryLog
from resolver.responder import Responder
from resolver.scope import ScopeTable


@dataclass(frozen=True, slots=True)
class ListenerContext:
    """All that a listener needs to answer a packet. A server has one."""

    scopes: ScopeTable
    """Gives the scope of a client by its address."""
    responder: Responder
    """Makes the replies."""
    turns: Turns
    """The queries whose reply must be made, and for which it is another source's turn."""
    connections: Connections
    """The open TCP connections."""
    held: HeldQueries
    """The queries that wait until a zone is published."""
    reply_tasks: ReplyTasks
    """The queries that wait for an upstream."""
    querylog: QueryLog
    """Gets each query with its reply."""
    counts: QueryCounts
    """What the server has done since it started."""
