"""The look-ups of one host's resolvers, by its session: what is asked of its agent, and what of the answer may be true.

A host is asked about environments that have a member on it, and of no others does it learn that somebody watches. What
it says of others is dropped: a stolen host can make up look-ups of its own environments, and of nobody else's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

from msgspec.structs import replace

from admin.lookups.hub import LookupHub
from watcher.session.lookups import Lookup, LookupFilter, cut
from watcher.session.protocol import Seen, Watch, encode

NOTHING = Watch()
MOST_RESOLVERS = 1000  # that a host is believed to have


@dataclass(eq=False, slots=True)
class HostLookups:
    """What one session is asked, and gives. It is a `admin.lookups.hub.Source`."""

    host: str
    """The host of the session."""
    hub: LookupHub
    """Is given what the host may say."""
    send: Callable[[bytes], None]
    """Sends a message to the agent."""
    had: Callable[[str], bool]
    """Whether the host has, or has had, a member of an environment since the session began."""
    members: Callable[[], Collection[str]]
    """Gives the environments that have a member on the host now."""
    resolvers: int | None = None
    """How many of its resolvers give look-ups; None while it has not said so."""
    _asked: Watch = NOTHING
    _second: float = 0.0
    _taken: int = 0  # look-ups of this second

    def watch(self, filters: tuple[LookupFilter, ...], most: int) -> None:
        """Asks for what one of ``filters`` wants, of the environments of this host."""
        here = self.members()
        mine = tuple(one for one in filters if one.environment is None or one.environment in here)
        wanted = Watch(mine, most) if mine else NOTHING
        if wanted == self._asked:
            return
        self._asked = wanted
        if not mine:
            self.resolvers = None
        self.send(encode(wanted))

    def take(self, seen: Seen) -> bool:
        """Takes what the host has seen. False where it is asked for nothing any more."""
        if not self._asked.filters:
            return False
        self.resolvers = min(seen.resolvers, MOST_RESOLVERS)
        believed = [replace(cut(one), host=self.host) for one in seen.lookups if self._may_say(one)]
        self.hub.counts.refused += len(seen.lookups) - len(believed)
        left_out = {id_: number for id_, number in seen.left_out.items() if number > 0 and self._may_name(id_)}
        return self.hub.take(believed, left_out)

    def _may_say(self, lookup: Lookup) -> bool:
        is_asked = any(one.wants(lookup) for one in self._asked.filters)
        return is_asked and self._may_name(lookup.environment or "") and self._is_in_time()

    def _may_name(self, environment: str) -> bool:
        return not environment or self.had(environment)

    def _is_in_time(self) -> bool:
        """Whether the host has sent no more than it was asked for; half as much again, for clocks differ."""
        now = time.monotonic()
        if now - self._second >= 1.0:
            self._second, self._taken = now, 0
        self._taken += 1
        return self._taken <= self._asked.most * 1.5
