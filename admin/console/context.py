"""What the pages of the console share: what they show, and the hub that keeps open pages up to date."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from aiohttp import web

from admin.console.hub import Hub
from admin.console.state import ConsoleState


@dataclass(frozen=True, slots=True)
class LookupTotals:
    """Look-ups that resolvers have answered since they started."""

    answered: int
    """All of them."""
    failed: int
    """Those that have failed: errors, and names that do not exist, as in ``interlock tail --failed``."""
    resolvers: int
    """How many resolvers they are of."""


Lookups = Callable[[], LookupTotals | None]
"""Gives what is known of all resolvers now; None: nothing is."""


@dataclass(slots=True)
class Console:
    """The console of one process. It outlives the application, which is made anew where it has to be started again."""

    state: ConsoleState = field(default_factory=ConsoleState)
    """All environments. The watcher of the process publishes to it."""
    lookups: Lookups | None = None
    """What resolvers have answered. None: nobody says."""
    hub: Hub = field(default_factory=Hub)
    """Passes on what happens to those who look."""

    def __post_init__(self) -> None:
        self.state.on_change = self._pass_on
        self.hub.openings["environment"] = self._open_environment

    def _pass_on(self, id_: str) -> None:
        topic = f"environment/{id_}"
        if topic in self.hub.topics:
            self.hub.publish(topic, self.state.version_of(id_) or "deleted")

    def _open_environment(self, topic: str) -> str | None:
        return self.state.version_of(topic.partition("/")[2])


CONSOLE = web.AppKey("console", Console)
