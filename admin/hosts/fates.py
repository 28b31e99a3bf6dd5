"""What has become of an instance that is not there any more: somebody has removed it, or the data were lost. Pure.

A revision alone does not tell. Where the data were lost, and environments were made again, their revisions count from
one, and soon pass the one at which the instance was committed. But no data set gives an address twice, so one that has
given this instance its address shows it: by the owner of the network, and by the numbers that were given last.
"""

from __future__ import annotations

from ipaddress import IPv6Network

from zones.addresses import SERVICE_BITS, Address, contains, subnet_number
from zones.model import Environment, Service


def was_removed(environment: Environment, instance: str, address: Address, owner: str) -> bool:
    """Whether the data that have ``environment`` have had ``instance`` at ``address``, so that it was removed since.

    ``owner`` is the environment to which the network of ``address`` belongs or belonged; empty for none.
    """
    if owner != environment.id:
        return False
    if not contains(environment.network, address):
        return True  # the environment was deleted, and made again in another network
    subnet = IPv6Network((int(address), SERVICE_BITS), strict=False)
    number = int(address) - int(subnet.network_address)
    for service in environment.services.values():
        if service.subnet == subnet:
            return number <= service.last_number and _holder(service, address) in {None, instance}
    return subnet_number(subnet) <= environment.last_subnet  # the service was deleted


def _holder(service: Service, address: Address) -> str | None:
    """The instance of ``service`` that has ``address``; None where none has."""
    return next((id_ for id_, one in service.instances.items() if one.address == address), None)
