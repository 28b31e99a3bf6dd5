"""From what an upstream answered to what a client is told. Pure.

An upstream's answer is put in order, not believed blindly: the CNAMEs from the name that was asked, each once and in
order, then the records that were asked for at their end [14, 15]; the SOA alone of a negative answer [16].
"""

from __future__ import annotations

from collections.abc import Iterable

from resolver.forward.exchange import Question
from resolver.messages import CLASS_IN, Rcode, Record, Reply, Response
from zones.names import Name
from zones.records import RRset, RRType

MAX_CHAIN = 16  # CNAMEs; twice what we follow ourselves, for others are more patient


def is_useful(response: Response) -> bool:
    """Whether ``response`` answers the question, be it with a no. A useless one is worth asking somebody else.

    A referral or an empty answer without recursion is "lame" (RFC 9499 §7): its server does not serve us.
    """
    if response.rcode == Rcode.NXDOMAIN:
        return True
    if response.rcode != Rcode.NOERROR:
        return False
    has_soa = any(record.rtype == RRType.SOA for record in response.authority)
    return bool(response.answer) or has_soa or response.recursive


def read(question: Question, response: Response, *, is_protected: bool) -> Reply:
    """``response`` as a reply. ``is_protected`` says that nobody could change it on its way."""
    rrsets = _group(response.answer)
    keeps_all = question.dnssec_ok or question.qtype == RRType.ANY
    answer = tuple(rrsets.values()) if keeps_all else _in_order(question, rrsets)
    authority = () if answer and answer[-1].rtype != RRType.CNAME else _negative(question, response.authority)
    wants_authentic = question.dnssec_ok or question.authentic
    return Reply(
        Rcode(response.rcode),
        answer,
        authority,
        authentic=response.authentic and is_protected and wants_authentic,
        checking_disabled=question.unchecked,
    )


def _group(records: Iterable[Record]) -> dict[tuple[Name, int], RRset]:
    groups: dict[tuple[Name, int], list[Record]] = {}
    for record in records:
        if record.rclass == CLASS_IN:
            groups.setdefault((record.name, record.rtype), []).append(record)
    # RFC 2181 §5.2: where TTLs differ, the least holds for all. The same record twice is one.
    return {
        (name, rtype): RRset(name, rtype, min(r.ttl for r in group), tuple(dict.fromkeys(r.rdata for r in group)))
        for (name, rtype), group in groups.items()
    }


def _in_order(question: Question, rrsets: dict[tuple[Name, int], RRset]) -> tuple[RRset, ...]:
    chain: list[RRset] = []
    name = question.qname
    while len(chain) < MAX_CHAIN:
        if found := rrsets.get((name, question.qtype)):
            return (*chain, found)
        alias = rrsets.get((name, RRType.CNAME))
        if alias is None or alias in chain:
            break
        chain.append(alias)
        target = alias.rdatas[0]
        assert isinstance(target, Name)
        name = target
    return tuple(chain)


def _negative(question: Question, authority: Iterable[Record]) -> tuple[RRset, ...]:
    rrsets = _group(authority)
    if question.dnssec_ok:
        return tuple(rrset for (_, rtype), rrset in rrsets.items() if rtype != RRType.NS)
    return tuple(rrset for (_, rtype), rrset in rrsets.items() if rtype == RRType.SOA)[:1]
