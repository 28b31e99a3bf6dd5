"""Names of a pending zone: the zone is announced, but not answered from yet, for this host cannot reach it yet. Pure.

To deny such a name would be wrong a moment later, and clients may believe the denial for longer than that. So a query
waits if the pending zone has a better answer than the zone that is served:

    REFUSED, NXDOMAIN, SERVFAIL   <   NODATA   <   records, or a forwarded name

NODATA is better than NXDOMAIN because of clients that ask for A and AAAA at once: musl believes the first NXDOMAIN of
the two (docs/clients.md). A new service has no A record; both queries of the pair must wait until both can be answered.
"""

from __future__ import annotations

from resolver.answer import answer
from resolver.special import NO_ROUTES
from resolver.wire.messages import Forward, Query, Rcode, Reply
from zones.names import Name
from zones.zone import Zone


def has_better_answer(
    query: Query, outcome: Reply | Forward, pending: Zone, routed: frozenset[Name] = NO_ROUTES
) -> bool:
    """Whether the zone ``pending`` has a better answer to ``query`` than ``outcome``, which could be given now.

    ``routed`` are suffixes of special names that are forwarded all the same.
    """
    grade = _grade(outcome)
    return grade < _BEST and grade < _grade(answer(query, pending, routed=routed))


_BEST = 2


def _grade(outcome: Reply | Forward) -> int:
    if isinstance(outcome, Forward):
        return _BEST
    if outcome.rcode is not Rcode.NOERROR:
        return 0
    return 1 if outcome.authority else _BEST  # an SOA in authority means that there is no data (RFC 2308 §2.2)
