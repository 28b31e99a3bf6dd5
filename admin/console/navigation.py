"""The pages that the head of every page leads to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from admin.auth.actors import Actor, Tenant


@dataclass(frozen=True, slots=True)
class Entry:
    """A page in the head of every page."""

    title: str
    """What it is called."""
    path: str
    """Where it is."""
    of_the_platform: bool = False
    """Whether it shows all of the platform, and so is not for the token of an environment."""


ENTRIES = (
    Entry("Overview", "/console/overview", of_the_platform=True),
    Entry("Log", "/console/log"),
    Entry("Try it", "/console/try"),
    Entry("Mesh", "/console/mesh", of_the_platform=True),
    Entry("Deploys", "/console/deploys"),
    Entry("API", "/console/api"),
)


def entries_for(actor: Actor) -> Sequence[Entry]:
    """The entries that ``actor`` may open; whoever has the token of an environment begins with that."""
    if not isinstance(actor, Tenant):
        return ENTRIES
    own = Entry(actor.environment, f"/console/environments/{actor.environment}")
    return (own, *(entry for entry in ENTRIES if not entry.of_the_platform))


def home_of(actor: Actor) -> str:
    """Where ``actor`` begins."""
    return entries_for(actor)[0].path
