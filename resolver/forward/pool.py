"""The pool of upstreams: asks the best one first, and another one when that is late or gives no useful answer.

ask         the whole answer                where an upstream's answer ends at an alias, the alias's target is asked for
_hedge      the first useful answer         of the upstreams on the name's route, ordered by their health
_ask_one    the answer of one upstream      exchange, scrubber; its health is updated
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import replace

from resolver.forward.boundary import Boundary
from resolver.forward.exchange import Clock, ExchangeFailed, Exchanger, Question
from resolver.forward.scrubber import MAX_CHAIN, Outcome, Unfinished, Useless, scrub
from resolver.forward.stepwise import Stepwise
from resolver.forward.upstream import Health, Routes, Upstream
from resolver.wire.messages import ErrorCode, ExtendedError, Rcode, Reply
from support.histogram import Histogram
from zones.addresses import Platform
from zones.names import Name

ATTEMPTS = 3  # at least, within the time that clients wait: few upstreams are asked again, because packets get lost
RETRY = 0.35  # seconds before one upstream is asked again: packets get lost, but most late answers still arrive
SILENCE = 1.0  # seconds before the best upstream is asked once more where none has said anything; then twice as many
LATE = 0.95  # seconds after which an upstream that has not answered counts as failed, though it is still listened to
WORTH_LOGGING = 3  # failures of an upstream in a row: one is usual, three are some seconds of silence

log = logging.getLogger(__name__)


class UpstreamPool:
    """The upstreams of ``routes`` with their ``health``; ``queries`` and ``failures`` count by upstream.

    They are believed within the ``boundary``, which begins at the names and addresses of ``platform``.
    """

    def __init__(self, routes: Routes, platform: Platform, tls: ssl.SSLContext | None, clock: Clock) -> None:
        self.health = {upstream: Health() for upstream in routes.all}
        self.queries: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        self.seconds: defaultdict[str, Histogram] = defaultdict(Histogram)
        """How long useful answers took, by upstream."""
        self.boundary = Boundary(platform, routes)
        self.between_steps: Callable[[], None] = lambda: None
        """Called before each step of asking an upstream, for work that must not wait."""
        self._exchanger = Exchanger(tls or _tls_for(routes))
        self._clock = clock

    @property
    def routes(self) -> Routes:
        """Which upstreams are asked for which names."""
        return self.boundary.routes

    def use(self, routes: Routes) -> None:
        """From now on, names are asked of the upstreams in ``routes``. What is in flight goes on."""
        self.health = {upstream: self._health(upstream) for upstream in routes.all}
        self.boundary = replace(self.boundary, routes=routes)
        self._exchanger.tls = self._exchanger.tls or _tls_for(routes)

    @property
    def forged(self) -> int:
        """How many packets came in place of an answer."""
        return self._exchanger.forged

    def has_upstream(self, qname: Name) -> bool:
        """Whether there is an upstream to ask for ``qname``."""
        return bool(self.routes.upstreams(qname))

    async def ask(self, question: Question) -> Reply:
        """The whole answer, also where an upstream's answer ends at an alias that leads out of its zones."""
        parts: list[Reply] = []
        while isinstance(outcome := await self._hedge(question), Unfinished):
            parts.append(outcome.reply)
            question = replace(question, qname=outcome.target)
            if len(parts) > MAX_CHAIN or self.boundary.is_answered_here(outcome.target):
                text = f"the answer would go on at {outcome.target}, which is never asked of an upstream"
                return fail(ErrorCode.NO_REACHABLE_AUTHORITY, text)
        if not parts or outcome.rcode == Rcode.SERVFAIL:
            return outcome
        answer = tuple(rrset for part in (*parts, outcome) for rrset in part.answer)
        return outcome.changed(answer=answer, authentic=all(part.authentic for part in (*parts, outcome)))

    async def _hedge(self, question: Question) -> Reply | Unfinished:
        """The first useful answer; an upstream is asked when the one before it is late or has failed."""
        upstreams, asked, silence = self._ranked(question), set[Upstream](), SILENCE
        asking: set[asyncio.Task[Outcome]] = set()
        failure: Useless | None = None
        try:
            while upstreams or asking:
                patience = None if failure else silence
                if upstreams:
                    upstream = upstreams.pop(0)
                    asked.add(upstream)
                    asking.add(asyncio.create_task(Stepwise(self._ask_one(upstream, question), self.between_steps)))
                    is_retry = bool(upstreams) and upstreams[0] in asked
                    if upstreams:
                        patience = RETRY if is_retry else self._health(upstream).hedge_delay
                done, asking = await asyncio.wait(asking, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
                for outcome in [task.result() for task in done]:
                    if not isinstance(outcome, Useless):
                        return outcome
                    failure = outcome
                if not upstreams and not done:  # all packets may be lost, or the network was away: once more
                    upstreams, silence = self._ranked(question)[:1], 2 * silence
        finally:
            for task in asking:
                task.cancel()
            await asyncio.gather(*asking, return_exceptions=True)
        reason = failure.reason if failure else "there is none"
        return fail(ErrorCode.NO_REACHABLE_AUTHORITY, f"no upstream resolver gave an answer: {reason}")

    def _ranked(self, question: Question) -> list[Upstream]:
        """The upstreams in the order in which to ask them, the best first; each several times if there are few."""
        now = self._clock()
        ranked = sorted(self.routes.upstreams(question.qname), key=lambda upstream: self._health(upstream).rank(now))
        return (ranked * ATTEMPTS)[: max(len(ranked), ATTEMPTS)]

    async def _ask_one(self, upstream: Upstream, question: Question) -> Outcome:
        health, loop = self._health(upstream), asyncio.get_running_loop()
        started, answered = loop.time(), health.answered

        def note_late() -> None:
            # It must not be the first again, unless it has answered another question since.
            if health.answered == answered:
                self._failed(upstream, "it is late")

        late = loop.call_later(LATE, note_late)
        self.queries[str(upstream)] += 1
        try:
            response = await self._exchanger.ask(upstream, question)
        except ExchangeFailed as error:
            self._failed(upstream, str(error))
            return Useless(str(error))
        except asyncio.CancelledError:
            if health.hedge_delay <= loop.time() - started < LATE:  # another upstream was faster
                note_late()
            raise
        finally:
            late.cancel()
        outcome = scrub(question, response, self.boundary, is_protected=upstream.is_protected)
        if isinstance(outcome, Useless):
            self._failed(upstream, outcome.reason)
            return outcome
        taken = loop.time() - started
        health.succeeded(taken)
        self.seconds[str(upstream)].observe(taken)
        return outcome

    def _health(self, upstream: Upstream) -> Health:
        return self.health.get(upstream) or Health()  # one that is no longer used may still be in flight

    def _failed(self, upstream: Upstream, reason: str) -> None:
        self.failures[str(upstream)] += 1
        if self._health(upstream).failed(self._clock()) == WORTH_LOGGING:
            details = {"upstream": str(upstream), "failures": WORTH_LOGGING, "reason": reason}
            log.warning("upstream_failed", extra=details)


def fail(code: ErrorCode, text: str) -> Reply:
    """A failure with its reason."""
    return Reply(Rcode.SERVFAIL, error=ExtendedError(code, text))


def _tls_for(routes: Routes) -> ssl.SSLContext | None:
    return ssl.create_default_context() if any(upstream.tls_name for upstream in routes.all) else None
