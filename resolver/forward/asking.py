"""Asking upstreams: the best first, another when that one is late or useless, and on where an answer ends at an alias.

follow    the whole answer          a chain of CNAMEs that an upstream leaves unfinished is asked on
hedge     who answers first?        of all upstreams on the name's route, by their health
ask one   and how did it do?        exchange, reading
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections import Counter
from dataclasses import replace

from resolver.forward.exchange import Clock, ExchangeFailed, Exchanger, Question
from resolver.forward.reading import MAX_CHAIN, Outcome, Unfinished, Useless, read
from resolver.forward.upstream import Health, Routes, Upstream
from resolver.special import special_zone
from resolver.wire.messages import ErrorCode, ExtendedError, Rcode, Reply
from zones.names import Name

ATTEMPTS = 3  # at least, within a flight's deadline
RETRY = (
    0.35  # seconds before the same upstream is asked again: packets get lost, but most late answers are on their way
)
WORTH_SAYING = 3  # failures of an upstream in a row: one is everyday, three are some seconds of silence

log = logging.getLogger(__name__)


class Asker:
    """Asks the upstreams of ``routes``; ``asked`` and ``failed`` count by upstream."""

    def __init__(self, routes: Routes, tls: ssl.SSLContext | None, clock: Clock) -> None:
        self.health = {upstream: Health() for upstream in routes.all}
        self.asked: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self._routes = routes
        self._exchanger = Exchanger(tls or _tls_for(routes))
        self._clock = clock

    @property
    def forged(self) -> int:
        """How many packets came in place of an upstream's answer."""
        return self._exchanger.forged

    def serves(self, qname: Name) -> bool:
        """Whether there is anybody to ask for ``qname``."""
        return bool(self._routes.upstreams(qname))

    async def ask(self, question: Question) -> Reply:
        """The whole answer, also from upstreams that end at an alias which leads out of their own zones."""
        said: list[Reply] = []
        while isinstance(outcome := await self._hedge(question), Unfinished):
            said.append(outcome.reply)
            question = replace(question, qname=outcome.target)
            if len(said) > MAX_CHAIN or special_zone(outcome.target):
                text = f"the answer would go on at {outcome.target}, where nobody is asked"
                return fail(ErrorCode.NO_REACHABLE_AUTHORITY, text)
        if not said or outcome.rcode == Rcode.SERVFAIL:
            return outcome
        answer = tuple(rrset for part in (*said, outcome) for rrset in part.answer)
        return replace(outcome, answer=answer, authentic=all(part.authentic for part in (*said, outcome)))

    async def _hedge(self, question: Question) -> Reply | Unfinished:
        """The first useful answer; each upstream is asked when the one before it is late or has failed."""
        upstreams, asked = self._ranked(question), set[Upstream]()
        asking: set[asyncio.Task[Outcome]] = set()
        failure = Useless("there is none")
        try:
            while upstreams or asking:
                patience = None
                if upstreams:
                    upstream = upstreams.pop(0)
                    asked.add(upstream)
                    asking.add(asyncio.create_task(self._ask_one(upstream, question)))
                    is_retry = bool(upstreams) and upstreams[0] in asked
                    patience = RETRY if is_retry else self.health[upstream].patience if upstreams else None
                done, asking = await asyncio.wait(asking, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
                for outcome in [task.result() for task in done]:
                    if not isinstance(outcome, Useless):
                        return outcome
                    failure = outcome
        finally:
            for task in asking:
                task.cancel()
            await asyncio.gather(*asking, return_exceptions=True)
        return fail(ErrorCode.NO_REACHABLE_AUTHORITY, f"no upstream resolver gave an answer: {failure.reason}")

    def _ranked(self, question: Question) -> list[Upstream]:
        """Whom to ask, the best first. Where they are few they are asked again: packets get lost."""
        now = self._clock()
        ranked = sorted(self._routes.upstreams(question.qname), key=lambda upstream: self.health[upstream].rank(now))
        return (ranked * ATTEMPTS)[: max(len(ranked), ATTEMPTS)]

    async def _ask_one(self, upstream: Upstream, question: Question) -> Outcome:
        health, loop = self.health[upstream], asyncio.get_running_loop()
        started, answered = loop.time(), health.answered
        self.asked[str(upstream)] += 1
        try:
            response = await self._exchanger.ask(upstream, question)
        except ExchangeFailed as error:
            self._failed(upstream, str(error))
            return Useless(str(error))
        except asyncio.CancelledError:
            # Another one was faster, or time is up. Who was late, and has answered nobody else since, is not to be
            # the first again.
            if loop.time() - started >= health.patience and health.answered == answered:
                self._failed(upstream, "it is late")
            raise
        outcome = read(question, response, is_protected=upstream.is_protected)
        if isinstance(outcome, Useless):
            self._failed(upstream, outcome.reason)
            return outcome
        health.succeeded(loop.time() - started)
        return outcome

    def _failed(self, upstream: Upstream, reason: str) -> None:
        self.failed[str(upstream)] += 1
        if self.health[upstream].failed(self._clock()) == WORTH_SAYING:
            details = {"upstream": str(upstream), "failures": WORTH_SAYING, "reason": reason}
            log.warning("upstream_failed", extra=details)


def fail(code: ErrorCode, text: str) -> Reply:
    """A failure with its reason."""
    return Reply(Rcode.SERVFAIL, error=ExtendedError(code, text))


def _tls_for(routes: Routes) -> ssl.SSLContext | None:
    return ssl.create_default_context() if any(upstream.tls_name for upstream in routes.all) else None
