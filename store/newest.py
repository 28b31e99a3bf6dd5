"""The newest revision of environments, as a writer has read or written it: it need not be read whole for each commit.

Whether one is still the newest is asked with each commit, in one round trip, which also brings what others have written
since. So what is kept here is never believed, only compared.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

from store.stored import MAX_DOCUMENT, Known, Stored
from zones import document, parts
from zones.hosts import hosts_of
from zones.model import Environment
from zones.names import EnvironmentId
from zones.parts import Difference

KEPT_OCTETS = MAX_DOCUMENT  # of documents; some 80 MB of memory, and at least one environment of any size


@dataclass(frozen=True, slots=True)
class Newest:
    """A revision of an environment, and what its writer knows of it beside."""

    environment: Environment
    """The environment."""
    digest: str
    """Its digest in the index."""
    octets: int
    """The size of its document, if all of it were written; some octets off where differences were added."""
    hosts: frozenset[str]
    """The hosts that have a member of it."""
    written: int
    """The octets of the document that lies in the store; no writer changes it without changing the digest."""
    added: int = 0
    """The octets of the differences that lie beside its document."""
    differences: int = 0
    """How many lie there: the store is asked with each commit whether they still do. 0: the first one begins anew."""

    @property
    def known(self) -> Known:
        """By what the store is asked whether it is still the newest."""
        return Known(self.environment.revision, self.digest)

    @classmethod
    def of(cls, stored: Stored, environment: Environment) -> Newest:
        """What was read whole: ``environment`` is what ``stored`` holds."""
        octets = len(document.encode(environment)) if stored.differences else stored.size
        added = sum(map(len, stored.differences))
        count = len(stored.beside) if stored.differences else 0
        return cls(environment, stored.digest, octets, hosts_of(environment), stored.size, added, count)

    def followed_by(self, environment: Environment, found: Difference, digest: str, written: Sequence[bytes]) -> Newest:
        """``environment``, which differs in ``found``, by the differences ``written``, and has the ``digest``."""
        octets = self.octets + parts.growth(self.environment, found)
        hosts = _hosts_after(self.hosts, self.environment, environment, found)
        added = self.added + sum(map(len, written))
        return Newest(environment, digest, octets, hosts, self.written, added, self.differences + len(written))


def _hosts_after(hosts: frozenset[str], before: Environment, after: Environment, found: Difference) -> frozenset[str]:
    """The hosts that have a member of ``after``, where ``hosts`` have one of ``before``, which differ in ``found``."""
    present = {one.host for changes in found.instances.values() for one in changes.values() if one}
    present |= {peer.gateway for peer in found.peers.values() if peer}
    doubtful = {before.peers[id_].gateway for id_ in found.peers if id_ in before.peers}
    for name, changes in found.instances.items():
        old = before.services[name].instances if name in before.services else {}
        doubtful |= {host for id_ in changes if id_ in old and (host := old[id_].host)}
    for name, head in found.services.items():
        if head is None:
            doubtful |= {host for one in before.services[name].instances.values() if (host := one.host)}
    return (hosts | {host for host in present if host}) - _without_member(after, doubtful - present)


def _without_member(environment: Environment, hosts: set[str]) -> set[str]:
    """Those of ``hosts`` that have no member of ``environment``."""
    if not hosts:
        return hosts  # and nothing is looked through
    instances = (each for service in environment.services.values() for each in service.instances.values())
    left = set(hosts)
    hosts_of_instances = (each.host for each in instances if each.host)
    for host in chain((peer.gateway for peer in environment.peers.values()), hosts_of_instances):
        if not left:
            break
        left.discard(host)
    return left


class NewestKept:
    """Keeps the newest revisions that were used last, up to `KEPT_OCTETS` of documents."""

    def __init__(self, most: int = KEPT_OCTETS) -> None:
        self._most = most
        self._octets = 0
        self._kept: OrderedDict[EnvironmentId, Newest] = OrderedDict()

    def get(self, id_: EnvironmentId) -> Newest | None:
        """The one of ``id_``."""
        if id_ in self._kept:
            self._kept.move_to_end(id_)
        return self._kept.get(id_)

    def put(self, newest: Newest) -> None:
        """Keeps ``newest``, instead of those that were used longest ago."""
        self.forget(newest.environment.id)
        self._kept[newest.environment.id] = newest
        self._octets += newest.octets
        while self._octets > self._most and len(self._kept) > 1:
            self._octets -= self._kept.popitem(last=False)[1].octets

    def forget(self, id_: EnvironmentId) -> None:
        """``id_`` is read whole the next time."""
        if old := self._kept.pop(id_, None):
            self._octets -= old.octets
