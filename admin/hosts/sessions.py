"""All sessions of this control plane, and which of them may go on: those whose credential is the one in the store.

The watcher names each host of which a change was announced. Its credential is read again, and a session that has shown
another one ends at once. That a credential is missing counts only where a change of that host was announced, or where
the store holds the data set that is served: a store that has lost its data ends no session.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field

from admin.hosts.errors import NotAllowed
from admin.hosts.limits import HostLimits
from admin.hosts.session import HostSession
from admin.lookups.hub import LookupHub
from store.credentials import Credential
from store.errors import CredentialChanged, Unavailable
from store.store import Store
from watcher.session.protocol import Close

RETRY = 0.2  # seconds until the store is asked again for credentials that it did not give

log = logging.getLogger(__name__)


@dataclass(slots=True)
class HostSessions:
    """The sessions, by host."""

    store: Store
    """Where the credentials are."""
    limits: HostLimits
    """How many sessions a host may have."""
    lookups: LookupHub = field(default_factory=LookupHub)
    """Is given the look-ups of all hosts."""
    _sessions: defaultdict[str, list[HostSession]] = field(default_factory=lambda: defaultdict(list))
    _known: dict[str, Credential] = field(default_factory=dict)  # as they were read last
    _named: set[str] = field(default_factory=set)
    _are_all_named: bool = False
    _woken: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def hosts(self) -> Collection[str]:
        """The hosts that have a session here."""
        return self._sessions.keys()

    def has(self, host: str) -> bool:
        """Whether ``host`` has a session here."""
        return host in self._sessions

    async def admit(self, host: str, fingerprint: str) -> Credential:
        """The credential of ``host``, which has shown ``fingerprint``. Raises `NotAllowed`, and `Unavailable`.

        While the store does not answer, what it said last counts: a host that is known may come back.
        """
        try:
            credential = (await self.store.credentials.find([host])).get(host)
            if credential and credential.next_fingerprint == fingerprint:
                credential = await self.store.credentials.promote(host, fingerprint)
        except CredentialChanged as error:
            raise NotAllowed(str(error)) from None
        except Unavailable:
            credential = self._known.get(host)
            if credential is None or credential.fingerprint != fingerprint:
                raise
        if credential is None or not credential.admits(fingerprint):
            raise NotAllowed(
                f"the host {host!r} was forgotten, or has shown a newer key: enrol it again with 'interlock host enrol'"
            )
        self._known[host] = credential
        return credential

    def add(self, session: HostSession) -> None:
        """Adds ``session``, before its credential is read."""
        self._sessions[session.host].append(session)

    def remove(self, session: HostSession) -> None:
        """Removes ``session``, which has ended."""
        self.lookups.remove(session.lookups)
        self._sessions[session.host].remove(session)
        if not self._sessions[session.host]:
            del self._sessions[session.host]

    def begun(self, session: HostSession) -> None:
        """The agent of ``session`` has said who it is: its earlier session ends, and so do those that are too many.

        An earlier one with an older key ends for that, whether or not the change of the credential was heard here yet:
        whoever has only that key need not come back.
        """
        newest = self._known.get(session.host)
        for other in [one for one in self._sessions[session.host] if one is not session]:
            if other.requests.lease != session.requests.lease:
                continue
            if newest and not newest.admits(other.requests.fingerprint):
                _end_credential(other)
            else:
                other.end(Close.REPLACED, "the agent has begun another session")
        mine = [one for one in self._sessions[session.host] if not one.is_ended]
        for other in mine[: max(0, len(mine) - self.limits.sessions)]:
            other.end(Close.CROWDED, f"the host has {self.limits.sessions} later sessions")
        self.lookups.add(session.lookups)

    async def examine(self, host: str, question: str) -> str | None:
        """What the agent of ``host`` says to ``question``, both in JSON; None where it has no session here."""
        mine = [one for one in self._sessions.get(host, ()) if not one.is_ended and one.requests.lease is not None]
        return await mine[-1].examine(question) if mine else None

    def name(self, hosts: Collection[str] | None) -> None:
        """Changes of ``hosts`` were announced; None: of any host, and the announcement may have been missed."""
        if hosts is None:
            self._are_all_named = True
        else:
            self._named |= set(hosts)
        self._woken.set()

    async def run(self) -> None:
        """Reads the credentials that may have changed, until it is cancelled."""
        while True:
            await self._woken.wait()
            self._woken.clear()
            named, are_all_named = self._named, self._are_all_named
            self._named, self._are_all_named = set(), False
            try:
                found = await self.store.credentials.read() if are_all_named else {}
                found |= await self.store.credentials.find(named - found.keys())
            except Unavailable:
                self._named |= named
                self._are_all_named |= are_all_named
                self._woken.set()
                await asyncio.sleep(RETRY)
                continue
            if are_all_named:
                self._known = dict(found)
            for host in set(self._sessions) if are_all_named else named:
                self._judge(host, found.get(host))

    def _judge(self, host: str, credential: Credential | None) -> None:
        if credential:
            self._known[host] = credential
        else:
            self._known.pop(host, None)
        for session in list(self._sessions.get(host, ())):
            if credential is None or not credential.admits(session.requests.fingerprint):
                _end_credential(session)
            else:
                session.requests.credential = credential

    def end_all(self, reason: str) -> None:
        """Ends all sessions, because this control plane ends."""
        for sessions in list(self._sessions.values()):
            for session in list(sessions):
                session.end(Close.GOING, reason)


def _end_credential(session: HostSession) -> None:
    session.end(Close.CREDENTIAL, "the host was forgotten, or has shown a newer key")
