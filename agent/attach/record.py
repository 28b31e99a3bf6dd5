"""The record of a workload: its instance in the environment's document, which the control plane commits.

The record is what other hosts and resolvers learn of a workload: its address, its host, and whether it is ready.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from msgspec.structs import replace

from agent.attach.attachment import Attachment
from agent.control_plane.connection import ControlPlane
from agent.control_plane.errors import NotAllowed
from watcher.session.protocol import (
    CONNECTED,
    AskFate,
    Committed,
    Connected,
    Done,
    PutInstance,
    Removed,
    RemoveInstance,
    SetState,
    Welcome,
)
from watcher.session.protocol import Fate as Became
from zones.addresses import Address
from zones.model import State
from zones.names import EnvironmentId


class Fate(Enum):
    """What became of a record."""

    HERE = "here"
    """The store has it, on this host."""
    REMOVED = "removed"
    """Somebody has removed it, or given it to another host, since it was committed here."""
    LOST = "lost"
    """The store has an older revision of the environment than the one in which it was committed."""
    UNKNOWN = "unknown"
    """The store knows nothing of the environment, or its document cannot be read: that proves nothing."""


@dataclass(slots=True)
class InstanceRecords:
    """Has the records of this host's workloads written. All methods raise `ControlPlaneError`."""

    control_plane: ControlPlane
    """What commits the instances, each on this host."""

    @property
    def takes_connected(self) -> bool:
        """Whether an instance may be connected before it is put: not with a control plane of an earlier release."""
        welcome = self.control_plane.welcome
        return welcome is not None and welcome.version >= CONNECTED

    async def put(self, attachment: Attachment, state: State, connected: Connected | None = None) -> Committed:
        """Commits the instance of ``attachment``, in ``state``; the first commit gives it its address.

        With ``connected`` it is committed as starting if it cannot have that address, or must not be ready at once. An
        instance of another host is taken over if that host is dead. Raises `NotAllowed` if it lives.
        """
        one = attachment
        request = PutInstance(
            0, one.environment, one.service, one.instance, state, _text(one.address), one.region, connected
        )

        asked = request

        def put(welcome: Welcome) -> PutInstance:
            nonlocal asked
            # One of an earlier release, which has taken over just now, knows nothing of what is connected already.
            is_earlier = connected is not None and welcome.version < CONNECTED
            asked = replace(request, state=State.STARTING, connected=None) if is_earlier else request
            return asked

        committed = await self.control_plane.ask(put, Committed)
        return replace(committed, is_starting=asked.state is State.STARTING or committed.is_starting)

    async def set_state(self, attachment: Attachment, state: State) -> None:
        """Changes the state of the instance of ``attachment``, if it is still there."""
        one = attachment
        request = SetState(0, one.environment, one.service, one.instance, state, address=_text(one.address))
        await self.control_plane.ask(request, Done)

    async def withdraw(self, environment: EnvironmentId, service: str, id_: str) -> bool:
        """Says that a ready instance is not attached here: it is answered under no name. False if it was not ready."""
        request = SetState(0, environment, service, id_, State.STARTING, only_from=State.READY, attached=False)
        return (await self.control_plane.ask(request, Done)).changed

    async def mark_attached(self, attachment: Attachment, state: State) -> None:
        """Says that the instance of ``attachment``, which is in ``state``, is attached here."""
        one = attachment
        request = SetState(
            0, one.environment, one.service, one.instance, state, address=_text(one.address), attached=True
        )
        await self.control_plane.ask(request, Done)

    async def fate(self, attachment: Attachment) -> Fate:
        """What has become of the record of ``attachment``."""
        one = attachment
        request = AskFate(0, one.environment, one.service, one.instance, one.revision, _text(one.address))
        try:
            return Fate((await self.control_plane.ask(request, Became)).fate)
        except ValueError:  # a fate that a later release knows
            return Fate.UNKNOWN

    async def remove(self, attachment: Attachment) -> int | None:
        """Removes the instance of ``attachment``, and with it its names; gives the revision without it.

        None where nothing was to be removed. Raises `Missing` where the environment itself is gone.
        """
        one = attachment
        request = RemoveInstance(0, one.environment, one.service, one.instance, _text(one.address))
        try:
            return (await self.control_plane.ask(request, Removed)).revision
        except NotAllowed:
            # A host may always remove what it has. So it has nothing there: its attach was refused as well.
            return None


def _text(address: Address | None) -> str | None:
    return None if address is None else str(address)
