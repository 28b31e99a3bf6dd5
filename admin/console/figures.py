"""The figures at the head of the overview, and the feed that brings them to all who look: made once a second, for all.

The feed works only while somebody looks. It asks the store alone, never a resolver or an agent.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass, field

from aiohttp import web

from admin.console.context import CONSOLE, Console, LookupTotals
from admin.console.rendering import render
from admin.console.state import Census
from admin.http.context import CONTEXT
from store.errors import StoreError
from store.store import Store

EVERY = 1.0  # seconds between two looks
LIST_EVERY = 5.0  # seconds between two renewals of the list of environments, which each viewer fetches anew
STORE_SECONDS = 0.8  # for the store to answer; a healthy one takes a millisecond
SECONDS_SHOWN = 60  # of look-ups, in the small chart
IDLE = 30.0  # seconds between two looks whether anybody looks


@dataclass(frozen=True, slots=True)
class HostsByLease:
    """How many hosts there are, by whether their agents have renewed their leases."""

    live: int
    """Those that have, and take new workloads."""
    draining: int
    """Those that have, and take nothing new."""
    down: int
    """Those that have not."""
    revision: int
    """The revision of all hosts."""


@dataclass(frozen=True, slots=True)
class Figures:
    """The figures of one moment."""

    environments: int
    """Environments."""
    disabled: int
    """Environments whose names are not answered."""
    census: Census
    """What there is in all of them."""
    hosts: HostsByLease | None
    """The hosts; None where the store does not say."""
    store: str
    """Where the store is."""
    store_problem: str
    """Why the store does not answer; empty if it does."""
    lookups: LookupTotals | None
    """What resolvers have answered; None where nobody says."""
    rates: tuple[float, ...]
    """Look-ups a second, each second of the last minute; empty where nobody has counted yet."""
    failed_share: float | None
    """The share of failed ones in them, 0 to 1; None where there were none."""
    newest: tuple[str, int, float] | None
    """The environment that has changed last, its revision and for how many seconds it is so."""
    is_loaded: bool
    """Whether all environments are known."""


@dataclass(slots=True)
class Rates:
    """Look-ups a second, from totals that only grow."""

    samples: deque[tuple[float, LookupTotals]] = field(default_factory=lambda: deque(maxlen=SECONDS_SHOWN + 1))
    """When something was heard, in monotonic seconds, and what."""

    def note(self, now: float, totals: LookupTotals | None) -> None:
        """``totals`` was heard at ``now``."""
        if totals is None or (self.samples and totals.answered < self.samples[-1][1].answered):
            self.samples.clear()  # a resolver has gone, or began anew
        if totals is not None and (not self.samples or now > self.samples[-1][0]):
            self.samples.append((now, totals))

    @property
    def rates(self) -> tuple[float, ...]:
        """Look-ups a second, between each two samples."""
        pairs = zip(self.samples, list(self.samples)[1:], strict=False)
        return tuple((after.answered - before.answered) / (now - then) for (then, before), (now, after) in pairs)

    @property
    def failed_share(self) -> float | None:
        """The share of failed ones, between the first sample and the last."""
        if len(self.samples) < 2:
            return None
        (_, first), (_, last) = self.samples[0], self.samples[-1]
        answered = last.answered - first.answered
        return (last.failed - first.failed) / answered if answered else None


async def take_figures(console: Console, store: Store, rates: Rates) -> Figures:
    """The figures now."""
    state = console.state
    totals = console.lookups() if console.lookups else None
    rates.note(time.monotonic(), totals)
    hosts, problem = await _ask_store(store)
    newest = state.newest
    return Figures(
        environments=len(state.environments),
        disabled=sum(not known.environment.enabled for known in state.environments.values()),
        census=state.total,
        hosts=hosts,
        store=store.url,
        store_problem=problem,
        lookups=totals,
        rates=rates.rates,
        failed_share=rates.failed_share,
        newest=newest and (newest[0], newest[1], max(0.0, time.time() - newest[2])),
        is_loaded=state.is_loaded,
    )


async def run_feed(app: web.Application) -> None:
    """Brings the figures to all who look, until it is cancelled."""
    console, store, rates = app[CONSOLE], app[CONTEXT].store, app[RATES]
    shown, listed, list_due = "", console.state.version, 0.0
    while True:
        if "overview" not in console.hub.topics:
            shown = ""
            rates.samples.clear()
            await console.hub.wait_for_change(IDLE)
            continue
        made = render("figures.html", figures=await take_figures(console, store, rates))
        if made != shown:
            shown = made
            console.hub.publish("overview", made)
        now = time.monotonic()
        if now >= list_due and listed != console.state.version:
            listed, list_due = console.state.version, now + LIST_EVERY
            console.hub.publish("environments", listed)
        await asyncio.sleep(EVERY)


async def _ask_store(store: Store) -> tuple[HostsByLease | None, str]:
    """The hosts, or why the store does not say."""
    try:
        async with asyncio.timeout(STORE_SECONDS):
            found = await store.hosts.read()
            live = await store.leases.live(found.hosts)
    except (StoreError, TimeoutError) as error:
        return None, str(error) or f"it has not answered within {STORE_SECONDS:g} s"
    draining = sum(host.draining and id_ in live for id_, host in found.hosts.items())
    count = HostsByLease(len(live) - draining, draining, len(found.hosts) - len(live), found.revision)
    return count, ""


RATES = web.AppKey("look-up rates", Rates)
