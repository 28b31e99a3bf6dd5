"""The scrubber: from an upstream's response to a reply for the client. Pure.

A response is put in order, and only what belongs to the question is kept: the CNAMEs from the queried name, each once
and in order, then the records of the queried type at their end [14, 15], and none of any other name; in a negative
answer the SOA alone [16]. CNAMEs are followed up to the boundary: at a name that is answered here, or that other
upstreams know, they end, whatever is said of it. The platform's addresses are left out. Where a DNAME came without the
CNAME that it stands for, that is made here (RFC 6672 §3.4). A client that set DO also gets the signatures of all that,
and the proofs of a negative answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from resolver.forward.boundary import Boundary
from resolver.forward.exchange import Question
from resolver.wire.messages import CLASS_IN, Rcode, Record, Reply, Response
from zones.names import MAX_NAME, ROOT, Name
from zones.records import Opaque, RRset, RRType, Soa

MAX_CHAIN = 16  # CNAMEs; twice what `answer` follows, for other resolvers follow more
LONGEST_TTL = 86_400  # seconds; a longer TTL is cut to this (RFC 8767 §4 suggests a week at most)
LONGEST_NEGATIVE = 300  # seconds; a client that waits for a new name should not wait for hours (RFC 2308 §5)

DNAME, RRSIG, NSEC, NSEC3 = 39, 46, 47, 50
_PROOFS = frozenset({NSEC, NSEC3})

RRsetKey = tuple[Name, int, int]
"""A name, a type, and for RRSIG the type that is signed (else 0): each name and type has signatures of its own."""


@dataclass(frozen=True, slots=True)
class Useless:
    """No answer to the question: another upstream should be asked."""

    reason: str
    """What is wrong with the response."""


@dataclass(frozen=True, slots=True)
class Unfinished:
    """Aliases only: the upstream does not follow them, or not to the end, or it is not to be believed about the end."""

    reply: Reply
    """The aliases."""
    target: Name
    """The name at their end, which is still to be asked for."""


Outcome = Reply | Unfinished | Useless


def scrub(question: Question, response: Response, boundary: Boundary, *, is_protected: bool) -> Outcome:
    """``response`` as a reply. ``is_protected`` says that nobody could change it in transit."""
    if response.rcode not in (Rcode.NOERROR, Rcode.NXDOMAIN):
        return Useless(Rcode(response.rcode).name if response.rcode in set(Rcode) else f"RCODE{response.rcode}")
    rrsets = _group(response.answer)
    if question.qtype == RRType.CNAME and (alias := _alias_at(question.qname, rrsets)):
        rrsets[question.qname, RRType.CNAME, 0] = alias
    chain = _follow(question, rrsets, boundary)
    if chain is None:
        return Useless(f"more than {MAX_CHAIN} CNAME records in a row, or a loop of them")
    end = _target(chain[-1]) if chain else question.qname
    is_over = bool(chain) and boundary.ends_at(end, question.qname)
    found = [rrset for (name, rtype, _), rrset in rrsets.items() if name == end and _is_asked(question, rtype)]
    asked = () if is_over else tuple(rrset for one in found if (rrset := boundary.without_platform(one)))
    authority = _group(response.authority)
    soa = next(
        (rrset for (name, rtype, _), rrset in authority.items() if rtype == RRType.SOA and _holds(name, end)), None
    )
    if not found and not chain and (reason := _why_useless(response, has_soa=soa is not None)):
        return Useless(reason)
    kept = (*chain, *asked)
    proofs = tuple(_proofs(authority)) if question.dnssec_ok else ()
    reply = Reply(
        Rcode(response.rcode),
        tuple(dict.fromkeys(_signed(kept, rrsets))) if question.dnssec_ok else kept,
        (*((_negative(soa),) if soa and not asked else ()), *proofs),
        authentic=response.authentic and is_protected and (question.dnssec_ok or question.authentic),
        checking_disabled=question.unchecked,
    )
    is_finished = found or soa or not chain or response.rcode == Rcode.NXDOMAIN
    return reply if is_finished and not is_over else Unfinished(reply, end)


def _why_useless(response: Response, *, has_soa: bool) -> str | None:
    """Why a response without records of the name is not a negative answer either; None if it is one.

    A "lame" server (RFC 9499 §7) does not serve our question: it refers to others, or does not look any further.
    """
    if response.rcode == Rcode.NXDOMAIN or has_soa:
        return None
    if any(record.rtype == RRType.NS for record in response.authority):
        return "a referral to other servers"
    if response.answer:
        return "records of names that were not asked for"
    return None if response.recursive else "it does not look any further"


def _is_asked(question: Question, rtype: int) -> bool:
    return question.qtype in (rtype, RRType.ANY)


def _follow(question: Question, rrsets: dict[RRsetKey, RRset], boundary: Boundary) -> tuple[RRset, ...] | None:
    """The CNAMEs that lead from the name that was asked to the last one; None if there is no last one."""
    chain: list[RRset] = []
    name = question.qname
    if question.qtype in (RRType.CNAME, RRType.ANY, RRSIG):
        return ()  # these are asked of the alias itself
    while (name, question.qtype, 0) not in rrsets and (alias := _alias_at(name, rrsets)):
        if len(chain) == MAX_CHAIN:
            return None
        chain.append(alias)
        name = _target(alias)
        if boundary.ends_at(name, question.qname):
            break
    return tuple(chain)


def _alias_at(name: Name, rrsets: dict[RRsetKey, RRset]) -> RRset | None:
    """The CNAME of ``name``: the one that was sent, or the one that a DNAME above ``name`` stands for."""
    if alias := rrsets.get((name, RRType.CNAME, 0)):
        return alias.changed(rdatas=alias.rdatas[:1])  # RFC 2181 §10.1: there is only one
    above = name
    while above != ROOT:
        above = above.parent
        if dname := rrsets.get((above, DNAME, 0)):
            return _synthesize(name, dname)
    return None


def _synthesize(name: Name, dname: RRset) -> RRset | None:
    """The CNAME of ``name`` by ``dname``, with its TTL (RFC 6672 §3.1); None where it would be too long for a name."""
    target = dname.rdatas[0]
    assert isinstance(target, Opaque)
    prefix = name[: len(name) - len(dname.name)]
    if len(prefix) + len(target.octets) > MAX_NAME:
        return None
    return RRset(name, RRType.CNAME, dname.ttl, (Name(prefix + target.octets.lower()),))


def _target(alias: RRset) -> Name:
    target = alias.rdatas[0]
    assert isinstance(target, Name)
    return target


def _signed(rrsets: Iterable[RRset], found: dict[RRsetKey, RRset]) -> Iterator[RRset]:
    """``rrsets``, each with its signatures; a CNAME that was made from a DNAME (RFC 6672 §3.1) after that DNAME."""
    for rrset in rrsets:
        name = rrset.name
        while rrset.rtype == RRType.CNAME and len(name) > 1:
            name = name.parent
            if dname := found.get((name, DNAME, 0)):
                yield dname
                yield from _signatures(dname, found)
        yield rrset
        yield from _signatures(rrset, found)


def _signatures(rrset: RRset, found: dict[RRsetKey, RRset]) -> tuple[RRset, ...]:
    signatures = found.get((rrset.name, RRSIG, rrset.rtype))
    return (signatures,) if signatures else ()


def _proofs(authority: dict[RRsetKey, RRset]) -> Iterator[RRset]:
    """The proofs of a negative answer or of a wildcard (RFC 4035 §3.1.3), and the signature of the SOA."""
    for (_, rtype, covered), rrset in authority.items():
        if rtype in _PROOFS or covered in _PROOFS or covered == RRType.SOA:
            yield rrset


def _negative(soa: RRset) -> RRset:
    """RFC 2308 §5: a negative answer holds for the lesser of the SOA's TTL and its minimum, which is then its TTL."""
    rdata = soa.rdatas[0]
    assert isinstance(rdata, Soa)
    return soa.changed(ttl=max(1, min(soa.ttl, rdata.minimum, LONGEST_NEGATIVE)), rdatas=soa.rdatas[:1])


def _holds(zone: Name, name: Name) -> bool:
    return name.below(zone) is not None


def _group(records: Iterable[Record]) -> dict[RRsetKey, RRset]:
    groups: dict[RRsetKey, list[Record]] = {}
    for record in records:
        if record.rclass == CLASS_IN:
            groups.setdefault((record.name, record.rtype, _covered(record)), []).append(record)
    # RFC 2181 §5.2: where TTLs differ, the least holds for all. The same record twice is one.
    return {
        key: RRset(key[0], key[1], min(map(_ttl, group)), tuple(dict.fromkeys(record.rdata for record in group)))
        for key, group in groups.items()
    }


def _covered(record: Record) -> int:
    if record.rtype != RRSIG or not isinstance(record.rdata, Opaque):
        return 0
    return int.from_bytes(record.rdata.octets[:2], "big")  # RFC 4034 §3.1.1


def _ttl(record: Record) -> int:
    # RFC 2181 §8: with the highest bit set it counts as 0; and none is given as 0 here [17].
    return max(1, min(record.ttl, LONGEST_TTL)) if record.ttl < 1 << 31 else 1
