"""What the console of this process shows that is known here alone, beside what the watcher publishes to it."""

from __future__ import annotations

from admin.console.context import LookupTotals
from resolver.querylog import FAILURES
from resolver.server import Resolver


def lookups_of(resolver: Resolver) -> LookupTotals:
    """What ``resolver``, which is in this process, has answered."""
    answered = failed = 0
    for key, count in resolver.counts.snapshot().items():
        answered += count
        failed += count if key.rcode in FAILURES else 0
    return LookupTotals(answered, failed, resolvers=1)
