"""What the console of this process shows that is known here alone, beside what the watcher publishes to it."""

from __future__ import annotations

from collections.abc import Mapping

from admin.console.context import LookupTotals
from resolver.counts import QueryKey
from resolver.querylog import FAILURES


def lookups_of(queries: Mapping[QueryKey, int]) -> LookupTotals:
    """What the resolver in this process has answered: ``queries`` are its replies by their kind."""
    answered = failed = 0
    for key, count in queries.items():
        answered += count
        failed += count if key.rcode in FAILURES else 0
    return LookupTotals(answered, failed, resolvers=1)
