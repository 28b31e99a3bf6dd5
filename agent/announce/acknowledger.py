"""Acknowledging to the control plane: the newest revision of each environment that is reachable and answered here."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field

from agent.control_plane.connection import ControlPlane
from agent.control_plane.errors import ControlPlaneError
from watcher.session.protocol import Acknowledge, Done

RETRY = 0.5  # seconds until acknowledgements that the control plane did not take are sent again

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Acknowledger:
    """Sends the acknowledgements of one host, only the newest of each environment, and all that wait in one call."""

    control_plane: ControlPlane
    """Where the acknowledgements go."""
    acknowledged: dict[str, int] = field(default_factory=dict)
    """The revisions that the control plane has taken, by environment or `ALL_HOSTS`."""
    _pending: dict[str, int] = field(default_factory=dict)
    """The revisions that the next call will send."""
    _in_flight: dict[str, int] = field(default_factory=dict)
    """The revisions that a call is sending now."""
    _problem: str = ""
    """Why the control plane did not take the last call; empty if it did."""
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when there is something pending."""

    def note(self, id_: str, revision: int) -> None:
        """Takes in that this host has ``revision`` of ``id_``, which is an environment or `ALL_HOSTS`."""
        # Any other revision is sent, not only a newer one: a data set restored from a copy goes on from an older one.
        newest = self._pending.get(id_, self._in_flight.get(id_, self.acknowledged.get(id_)))
        if revision != newest:
            self._pending[id_] = revision
            self._wake.set()

    def forget(self, id_: str) -> None:
        """Sends no more about ``id_``, which was withdrawn."""
        for revisions in (self._pending, self._in_flight, self.acknowledged):
            revisions.pop(id_, None)

    def send_all_again(self) -> None:
        """Sends every acknowledgement once more: the store may have lost some."""
        # What is in flight is newer than what was acknowledged, so it takes precedence.
        self._pending = {**self.acknowledged, **self._in_flight, **self._pending}
        self.acknowledged.clear()
        self._wake.set()

    async def run(self) -> None:
        """Works until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            self._in_flight, self._pending = self._pending, {}
            try:
                await self.control_plane.ask(Acknowledge(0, self._in_flight), Done)
            except ControlPlaneError as error:
                if self._problem != str(error):  # once, not with every attempt
                    log.warning("not_acknowledged", extra={"environments": len(self._in_flight), "reason": str(error)})
                self._problem = str(error)
                self._pending = {**self._in_flight, **self._pending}
                self._wake.set()
                await asyncio.sleep(RETRY)
            else:
                self.acknowledged |= self._in_flight
                self._problem = ""
            finally:
                self._in_flight = {}
