"""Names that are on their way: known, but not answered yet, for there is no path to them yet. Pure.

To say "no" to such a name would be wrong a moment later, and clients may believe it for longer than that. So a query
waits if the zone that is on its way has more to say to it than the one that is served:

    REFUSED, NXDOMAIN, SERVFAIL   <   NODATA   <   records, or somebody else to ask

NODATA is more than NXDOMAIN because of clients that ask for A and AAAA at once: musl believes the first NXDOMAIN of the
two (docs/clients.md). Of a new service, which has no A, it must hear neither before both can be answered.
"""

from __future__ import annotations

from resolver.answer import answer
from resolver.wire.messages import Forward, Query, Rcode, Reply
from zones.zone import Zone


def is_coming(query: Query, said: Reply | Forward, zone: Zone) -> bool:
    """Whether ``zone``, which is on its way, has more to say to ``query`` than what is to be ``said`` now."""
    now = _worth(said)
    return now < _MOST and now < _worth(answer(query, zone))


_MOST = 2


def _worth(outcome: Reply | Forward) -> int:
    if isinstance(outcome, Forward):
        return _MOST
    if outcome.rcode is not Rcode.NOERROR:
        return 0
    return 1 if outcome.authority else _MOST  # the SOA says that there is no data (RFC 2308 §2.2)
