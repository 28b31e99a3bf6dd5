"""An environment as the control plane knows it: the hosts that have a member of it, and the messages that name it.

A message is made once, however many sessions are sent it, and so is what one revision has otherwise than another.
"""

from __future__ import annotations

import weakref
from collections import Counter
from dataclasses import dataclass, field

from msgspec import Raw

from watcher.session.protocol import EnvironmentChanged, EnvironmentIs, encode
from zones import document, parts
from zones.model import Environment
from zones.parts import Difference, Touched


@dataclass(eq=False, slots=True, weakref_slot=True)
class KnownEnvironment:
    """An environment at one revision, as all sessions are sent it."""

    environment: Environment
    """The environment."""
    members: frozenset[str]
    """The hosts that have a member of it."""
    _counts: Counter[str]  # how many members each of them has
    _message: bytes = b""
    _since: weakref.WeakKeyDictionary[KnownEnvironment, Difference | bytes] = field(
        default_factory=weakref.WeakKeyDictionary
    )  # the differences to earlier revisions, and the messages that have them

    @classmethod
    def of(cls, environment: Environment) -> KnownEnvironment:
        """``environment``, of which no earlier revision is known."""
        instances = (one for service in environment.services.values() for one in service.instances.values())
        counts = Counter(one.host for one in instances if one.host is not None)
        counts.update(peer.gateway for peer in environment.peers.values())
        return cls(environment, frozenset(counts), counts)

    def followed_by(self, environment: Environment) -> KnownEnvironment:
        """``environment``, which is another revision of this one. What has not changed is not looked at."""
        difference, counts = parts.difference(self.environment, environment), self._counts.copy()
        for _, _, old, new in Touched.by([difference]).each_instance(self.environment, environment):
            for instance, by in ((old, -1), (new, 1)):
                if instance and instance.host is not None:
                    counts[instance.host] += by
        for one, by in ((self.environment, -1), (environment, 1)):
            for id_ in difference.peers:
                if peer := one.peers.get(id_):
                    counts[peer.gateway] += by
        counts = +counts
        members = self.members if counts.keys() == self.members else frozenset(counts)
        after = KnownEnvironment(environment, members, counts)
        after._since[self] = difference
        return after

    @property
    def message(self) -> bytes:
        """The message that has its document."""
        if not self._message:
            one = self.environment
            written = Raw(document.encode(one))
            self._message = encode(EnvironmentIs(one.id, one.revision, written, document.digest_of(one)))
        return self._message

    def message_since(self, before: KnownEnvironment) -> bytes:
        """The message that has what this revision has otherwise than ``before``, which is another one."""
        found = self._since.get(before)
        if not isinstance(found, bytes):
            one = self.environment
            found = parts.difference(before.environment, one) if found is None else found
            written = Raw(parts.encode(found))
            found = encode(
                EnvironmentChanged(one.id, before.environment.revision, one.revision, written, document.digest_of(one))
            )
            self._since[before] = found
        return found
