"""Telling what there is a way to: first the resolvers of this host, then the store.

announce   it is known; its way is being made            the resolvers hold who asks for what is new in it
ready      there is a way to all that is in it           the resolvers answer it, and say so
then the store learns that this host has it
withdraw   it is gone                                    names first, then the way
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field

from agent.announce.acknowledger import Acknowledger
from store.keys import ALL_HOSTS
from watcher.feed.server import FeedServer
from zones.model import Environment
from zones.names import EnvironmentId


@dataclass(slots=True)
class Notifier:
    """Passes on to ``feed`` and ``acknowledger`` what the mesh has done."""

    feed: FeedServer
    acknowledger: Acknowledger
    _newest: dict[EnvironmentId, Environment] = field(default_factory=dict)
    _is_all_told: bool = False
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def announce(self, environment: Environment) -> None:
        """``environment`` is known."""
        self.feed.announce(environment)

    def withdraw(self, id_: EnvironmentId) -> None:
        """``id_`` is gone."""
        self._newest.pop(id_, None)
        self.acknowledger.forget(id_)
        self.feed.withdraw(id_)

    def ready(self, environments: Iterable[Environment]) -> None:
        """There is a way to all that is in ``environments``; the first time, these are all that there are."""
        some = list(environments)
        self._newest |= {environment.id: environment for environment in some}
        if some or not self._is_all_told:
            task = asyncio.create_task(self._tell(some, is_first=not self._is_all_told))
            self._is_all_told = True
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def hosts(self, revision: int) -> None:
        """The hosts are peers here as they were at ``revision``."""
        self.acknowledger.note(ALL_HOSTS, revision)

    def stop(self) -> None:
        """Ends what is being told."""
        for task in self._tasks:
            task.cancel()

    async def _tell(self, environments: Iterable[Environment], *, is_first: bool) -> None:
        # The resolvers first: an acknowledgement says that it is reached and answered here.
        await asyncio.gather(*(self.feed.publish(environment) for environment in environments))
        if is_first:
            self.feed.loaded()
        for environment in environments:
            if self._newest.get(environment.id) is environment:  # else a newer one has overtaken it
                self.acknowledger.note(environment.id, environment.revision)
