"""Why a look-up has no good answer, for the query log: in words that a person can act on.

The reply itself says it where its client speaks EDNS (RFC 8914). Many clients do not, and get the same reply without
its reason; and a denial that is right needs none to a client, but does to whoever wonders. So the reason is, in order:

    the extended error of the reply
    what was remembered when the reply was made        forwarded names, and queries that were held in vain
    what the client's zone says about the name         denials, empty answers, refusals
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable

from resolver.answer import Found, Trace, trace_answer
from resolver.scope import ScopeState
from resolver.wire.messages import Drop, Query, Rcode, Rejected, Reply
from resolver.wire.summary import Summary
from zones.model import Service
from zones.names import EnvironmentId
from zones.records import type_name
from zones.zone import Zone

MOST_REMEMBERED = 1024  # replies without their reason in them; they are asked for a moment later, or never

OUR_FAULT = "a fault in Interlock itself: the resolver's log has its traceback (query_failed)"
MALFORMED = "the packet is no well-formed query"


class Reasons:
    """The reasons of replies that were made a moment ago, by the question and by whose it was."""

    def __init__(self) -> None:
        self._texts: dict[Hashable, str] = {}

    def note(self, environment: EnvironmentId | None, question: bytes, text: str) -> None:
        """Remembers why ``question`` of a client of ``environment`` has no good answer; empty: it has."""
        key = environment, question.lower()
        self._texts.pop(key, None)
        if text:
            if len(self._texts) >= MOST_REMEMBERED:
                del self._texts[next(iter(self._texts))]
            self._texts[key] = text

    def get(self, environment: EnvironmentId | None, question: bytes) -> str:
        """What was remembered last; empty where nothing was."""
        return self._texts.get((environment, question.lower()), "")


def find_reason(state: ScopeState, query: Query | Rejected | Drop, summary: Summary, remembered: Reasons) -> str:
    """Why the reply that ``summary`` describes has no good answer; empty where it has one.

    ``state`` is what the client of ``query`` was served.
    """
    if summary.error:
        return summary.error
    if isinstance(query, Rejected | Drop):
        return _REJECTED.get(summary.rcode, MALFORMED)
    environment = state.zone.id if state.zone else state.environment
    remembered_text = remembered.get(environment, query.header.question)
    if summary.rcode == "NOERROR" and not is_nodata(query, summary):
        return "" if summary.authoritative else remembered_text  # such as that the answer is stale
    if summary.authoritative and state.zone and (text := _explain(query, state.zone)):
        return text
    if summary.rcode == "SERVFAIL" and not summary.repeats_question:
        return OUR_FAULT
    return remembered_text or _refusal(query, state) or _of_upstreams(summary)


def is_nodata(query: Query, summary: Summary) -> bool:
    """Whether the reply says that the name exists, and has no records of the type (RFC 2308 §2.2)."""
    if summary.rcode != "NOERROR" or summary.truncated:
        return False
    asks_alias = type_name(query.qtype) in ("CNAME", "ANY")
    return not summary.answers if asks_alias else len(summary.answers) == len(summary.aliases)


_UPSTREAM = {
    "NXDOMAIN": "the upstream resolvers say that there is no such name",
    "NOERROR": "the upstream resolvers say that the name has no such records",
}
_REJECTED = {
    "NOTIMP": "only queries are served: no updates, notifications or other operations",
    "BADVERS": "the query has an EDNS version that does not exist: there is only 0",
}


def _of_upstreams(summary: Summary) -> str:
    return _UPSTREAM.get(summary.rcode, f"the upstream resolvers say {summary.rcode}, and no more")


def _refusal(query: Query, state: ScopeState) -> str:
    """Why ``query`` is refused here; empty where it is not."""
    if state.zone is None:
        return state.reason
    outcome = trace_answer(query, state.zone).outcome
    return outcome.error.text if isinstance(outcome, Reply) and outcome.error else ""


def _explain(query: Query, zone: Zone) -> str:
    """Why ``zone`` has no answer to ``query``; empty where the name is an upstream's."""
    trace = trace_answer(query, zone)
    if not isinstance(trace.outcome, Reply):
        return ""
    if trace.outcome.error:
        return trace.outcome.error.text
    return (_explain_denial if trace.outcome.rcode is Rcode.NXDOMAIN else _explain_nodata)(query, trace, zone)


def _explain_denial(_query: Query, trace: Trace, zone: Zone) -> str:
    name = trace.steps[-1].name
    if zone.apex_of(name) is None:
        return f"{name} is a name of private use, which no upstream resolver is asked for"
    alias = f", which {trace.steps[0].name} leads to" if len(trace.steps) > 1 else ""
    return f"environment {zone.id!r} has no name {name}{alias}"


def _explain_nodata(query: Query, trace: Trace, zone: Zone) -> str:
    step = trace.steps[-1]
    if step.found is not Found.NODE or step.node is None:
        return ""
    name, node = step.name, step.node
    service = zone.environment.services.get(node.service) if node.service else None
    if service is not None and not node.rrsets:
        total = len(service.instances)
        return f"{name} is {node.origin.value}: none of the {total} instances is answered: {_why(service)}"
    held = ", ".join(map(type_name, node.rrsets)) or "no records of its own"
    return f"{name} is {node.origin.value}: no {type_name(query.qtype)} records, only {held}"


def _why(service: Service) -> str:
    """In which states the instances of ``service`` are."""
    states = Counter(instance.state.value for instance in service.instances.values())
    return ", ".join(f"{number} {state}" for state, number in states.items()) or "there are none"
