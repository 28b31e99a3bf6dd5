"""What the UDP and the TCP listeners of one server share."""

from __future__ import annotations

from dataclasses import dataclass

from resolver.counts import QueryCounts
from resolver.net.held import HeldQueries, ReplyTasks
from resolver.querylog import QueryLog
from resolver.responder import Responder
from resolver.scope import ScopeTable


@dataclass(frozen=True, slots=True)
class ListenerContext:
    """All that a listener needs to answer a packet. A server has one."""

    scopes: ScopeTable
    responder: Responder
    held: HeldQueries
    reply_tasks: ReplyTasks
    querylog: QueryLog
    counts: QueryCounts
