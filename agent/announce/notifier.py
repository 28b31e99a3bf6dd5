"""Notifying of what this host can reach: first its resolvers, then the control plane.

announce   an environment's document is known          the resolvers hold queries for names that are new in it
away       to some hosts there is no path              the resolvers leave their instances out
ready      all addresses in it can be reached          the resolvers answer from it, and confirm that they do;
then the control plane gets this host's acknowledgement
withdraw   the environment is gone                     the resolvers stop answering before the routes are removed
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from agent.announce.acknowledger import Acknowledger
from watcher.feed.server import FeedServer
from watcher.session.protocol import ALL_HOSTS
from zones.model import Environment
from zones.names import EnvironmentId
from zones.placement import HostsAway


@dataclass(slots=True)
class Notifier:
    """Passes on what the mesh has applied."""

    feed: FeedServer
    """The connections of this host's resolvers."""
    acknowledger: Acknowledger
    """Sends this host's acknowledgements to the control plane."""
    _newest: dict[EnvironmentId, Environment] = field(default_factory=dict)
    """The newest document of each environment that is ready."""
    _answered: dict[EnvironmentId, int] = field(default_factory=dict)
    """The revision of each environment that the resolvers answer from, or that they had their time to."""
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    """Is set for a moment with each change of ``_answered``."""
    _has_sent_first: bool = False
    """Whether the first set of ready environments has been passed on, after which the resolvers count as loaded."""
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    """The notifications under way."""

    @property
    def answered(self) -> Mapping[EnvironmentId, int]:
        """The revision of each environment that the resolvers of this host answer from."""
        return dict(self._answered)

    def announce(self, environment: Environment) -> None:
        """Takes in that ``environment`` is known, and that this host is about to apply it."""
        self.feed.announce(environment)

    def away(self, hosts: HostsAway) -> None:
        """Takes in that ``hosts``, and no others, have no path from here."""
        self.feed.set_away(hosts)

    def withdraw(self, id_: EnvironmentId) -> None:
        """Takes in that the environment ``id_`` is gone."""
        self._newest.pop(id_, None)
        self._answered.pop(id_, None)
        self.acknowledger.forget(id_)
        self.feed.withdraw(id_)

    def ready(self, environments: Iterable[Environment]) -> None:
        """Takes in that all addresses in ``environments`` are reachable; the first time, these are all environments."""
        changed = list(environments)
        self._newest |= {environment.id: environment for environment in changed}
        if changed or not self._has_sent_first:
            published = [(environment, self.feed.begin_to_publish(environment)) for environment in changed]
            task = asyncio.create_task(self._notify(published, is_first=not self._has_sent_first))
            self._has_sent_first = True
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def hosts_applied(self, revision: int) -> None:
        """Takes in that the other hosts are peers here as they were registered at ``revision``."""
        self.acknowledger.note(ALL_HOSTS, revision)

    async def until_answered(self, id_: EnvironmentId, revision: int) -> None:
        """Returns when the resolvers of this host answer from ``revision`` of ``id_``, or from a newer one."""
        while self._answered.get(id_, 0) < revision:
            await self._changed.wait()

    def stop(self) -> None:
        """Ends the notifications under way."""
        for task in self._tasks:
            task.cancel()

    async def _notify(self, published: Sequence[tuple[Environment, int]], *, is_first: bool) -> None:
        # The resolvers first: an acknowledgement says that an environment is both reachable and answered here.
        await asyncio.gather(*(self.feed.until_served(environment.id, number) for environment, number in published))
        if is_first:
            self.feed.loaded()
        for environment, _ in published:
            if self._newest.get(environment.id) is environment:  # else a newer document is on its way already
                self.acknowledger.note(environment.id, environment.revision)
                self._answered[environment.id] = environment.revision
        self._changed.set()
        self._changed.clear()
