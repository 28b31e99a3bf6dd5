"""Whose each network is: what is wrong with the list of owners, beside the environments that are in the networks.

The list says to whom a network belongs, or belonged before it was deleted. The scripts that commit keep it. An
environment whose network is another's there can be read and deleted, and never be changed again; one whose network is
nobody's there could meet a new environment in it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass

from store.store import Store
from zones.names import EnvironmentId


@dataclass(frozen=True, slots=True)
class WrongOwner:
    """An environment whose network is not its own by the list."""

    environment: EnvironmentId
    """The environment that is in it."""
    network: str
    """The network."""
    owner: str
    """To whom it belongs by the list; empty for nobody."""
    is_contested: bool
    """Whether the owner is in it too, as far as anybody can tell: then somebody must decide which of them is to go."""

    @property
    def problem(self) -> str:
        """What is wrong, in words."""
        if not self.owner:
            return f"the list of networks does not have the one of environment {self.environment!r}"
        where = "which is in it too" if self.is_contested else "which is not in it"
        return f"it belongs to {self.owner!r}, {where}, and environment {self.environment!r} is in it"


async def find_wrong_owners(
    store: Store, homes: Mapping[EnvironmentId, str], damaged: Collection[EnvironmentId]
) -> AsyncIterator[WrongOwner]:
    """The environments in ``homes``, environment → its network, whose network is not their own.

    Nobody knows in which network those in ``damaged`` are.
    """
    owners = await store.environments.networks()
    for id_, network in homes.items():
        owner = owners.get(network, "")
        if owner != id_:
            other = EnvironmentId(owner)
            yield WrongOwner(id_, network, owner, other in damaged or homes.get(other) == network)
