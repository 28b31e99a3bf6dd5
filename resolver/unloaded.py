"""Answers to clients whose environment is not known yet, because no environments are loaded. Pure.

Special names are the same in every environment, so they are answered at once. Names outside the platform are forwarded
once it is known that nothing better will come soon. A name of the platform must wait: only its environment knows it.
"""

from __future__ import annotations

from resolver.answer import refuse_unserved
from resolver.special import answer_special
from resolver.wire.messages import Forward, Query, Reply
from zones.addresses import Platform
from zones.names import Name
from zones.zone import apex_of


def answer_unloaded(query: Query, platform: Platform, routed: frozenset[Name]) -> Reply | Forward | None:
    """The answer to ``query`` that holds in every environment which forwards; None if it must wait.

    ``routed`` are suffixes of special names that are forwarded all the same.
    """
    if refusal := refuse_unserved(query):
        return refusal
    if apex_of(platform, query.qname):
        return None
    return answer_special(query, query.qname, routed) or Forward(query, query.qname)
