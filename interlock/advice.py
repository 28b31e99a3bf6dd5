"""What a refusal of the admin API means for somebody at the command line: the same facts, and what to type.

The API advises clients that speak HTTP; `explain` says it in commands and flags.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

AGAIN = "run the command again"

# The kind of a problem → the title for people, and what to do; each is empty where the detail says that already.
KINDS: Mapping[str, tuple[str, str]] = {
    "malformed": ("", ""),
    "invalid": ("", ""),
    "unauthenticated": ("", "give --token, set INTERLOCK_TOKEN, or name its --state-dir"),
    "forbidden": ("The token does not allow this", "give another one with --token"),
    "missing": ("", ""),
    "no-such-path": ("This API does not know the command", "use an 'interlock' of the API's release"),
    "no-such-method": ("This API does not know the command", "use an 'interlock' of the API's release"),
    "slow-body": ("The API did not receive the command in time", AGAIN),
    "quota-exceeded": (
        "The quota of the environment is used up",
        "'interlock env quota' shows it, and --set raises it",
    ),
    "conflict": ("", ""),
    "mass-withdrawal": ("This deletes very much at once", ""),
    "precondition-failed": ("Somebody else was first", "look at what is there, and " + AGAIN),
    "too-large": ("That is too much at once", "do it in several parts"),
    "unsupported-media-type": ("This API does not take what the command sends", "use an 'interlock' of its release"),
    "rate-limited": ("Too many commands at once", ""),
    "damaged": ("This environment cannot be used", ""),  # the detail says that it is damaged
    "too-many-viewers": ("Too many people look at this control plane", ""),
    "busy": ("Others write at the same time", ""),
    "store-damaged": ("The store holds something that is not Interlock's", "'interlock store check' names it"),
    "unconfirmed": ("The change was made, and a failover may lose it", ""),
    "store-unavailable": ("The API's store does not answer", ""),
    "timed-out": ("The API took too long", ""),
    "refused": ("The API refuses", ""),
    "internal": ("A fault of the API", ""),
}

# What the API says to clients that speak HTTP → what somebody types instead.
PHRASES: Sequence[tuple[re.Pattern[str], str]] = tuple(
    (re.compile(pattern), typed)
    for pattern, typed in (
        (r"if that is meant, send it again with \?confirm=withdrawal", "if that is meant, give --yes"),
        (r"if that is meant, send it again with \?confirm=live", "if that is meant, give --live"),
        (r"send it again with \?confirm=(\S+)", r"give --\1"),
        (r"create it with PUT /v1/environments/(\S+)", r"create it with 'interlock env create \1'"),
        (
            r"PUT the environment with \?replace=damaged puts an empty one in its place, and DELETE removes it",
            "'interlock env create ENVIRONMENT --replace-damaged' puts an empty one in its place, and 'interlock env"
            " delete ENVIRONMENT' removes it",
        ),
        (
            r"replace it with PUT …\?replace=damaged, or delete it",
            "'interlock env create ENVIRONMENT --replace-damaged' puts an empty one in its place, 'interlock env"
            " delete' removes it",
        ),
        (r"name it, as in \?environment=production", "name it, as in --environment production"),
        (r"and DELETE removes it", "and 'interlock env delete' removes it"),
        (r"send 'Authorization: Bearer TOKEN'; the root", "the root"),
        (r"(?:send|Send) the request again later, and read before you send a write again", f"{AGAIN} later, and look"
         " first whether a change was made"),
        (r"send the request again", AGAIN),
        (r"read before you send it again", f"look before you {AGAIN}"),
        (r": wait as long as Retry-After says(?:, and use batches)?", f": wait a moment, and {AGAIN}"),
        (r", and 'If-None-Match: \*' is to create only: leave it out", ""),
        (r", and 'If-Match: \*' is to change only: leave it out to create", ""),
        (r", so no If-Match can hold: leave it out to create", " any more"),
        (
            r", and its ETag is not the one in If-Match \(which takes an ETag as it was given, not a revision\):"
            r" read it again and decide anew",
            " now, which is not the one that was looked at",
        ),
        (r", so no ETag in If-Match can be its: leave it out", ""),
        (r"/openapi\.json lists the paths of the API", ""),
        (r"use [A-Z, ]+ here", ""),
        (r"send at most (\S+) octets; split a batch into several", r"it takes \1 octets at most"),
        (r"send JSON, with the header '[^']*'", ""),
        (r": send it (?:as it is, or use gzip|at once)", ""),
        (r"a write takes 'If-None-Match.*", "the command has sent a condition that the API does not take"),
        (r".*: send an ETag as it was given.*", "the command has sent a condition that the API does not take"),
        (r"the (?:body|request) (?=is|did|took)", "what the command sent "),
        (r"\bthe parameter\b", "the flag"),
    )
)  # fmt: skip


def explain(status: int, reason: str, problem: Any) -> str:
    """One line for a refusal with that status: from ``problem``, its problem details (RFC 9457), if it has them."""
    if not isinstance(problem, dict):
        return f"{status} {reason}"
    kind = str(problem.get("type", "")).rpartition(":")[2]
    title, advice = KINDS.get(kind, (problem.get("title"), ""))
    detail = problem.get("detail")
    title = title or (problem.get("title") if not detail else "")
    parts = (title, typed(detail) if isinstance(detail, str) else detail, advice)
    return ": ".join(str(part) for part in parts if part) or f"{status} {reason}"


def typed(detail: str) -> str:
    """``detail``, what the API advises, in what somebody types at the command line."""
    for pattern, replacement in PHRASES:
        detail = pattern.sub(replacement, detail)
    return detail.strip()
