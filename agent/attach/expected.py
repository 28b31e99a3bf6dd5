"""How a workload will be connected, as its host can know it before the workload is recorded.

A host that has a ready instance of an environment follows the environment's document: it lets the other hosts of the
environment through, and the document says which host number a service gives next. So a workload can be connected at
that address first, and recorded once, as ready. Another host may come first, or this one lose its last ready instance:
then the control plane has the workload wait until it is connected anew (`watcher.session.protocol.Connected`).
"""

from __future__ import annotations

from collections.abc import Iterable

from agent.attach.attachment import Attachment, Phase
from watcher.session.protocol import Connected
from zones.addresses import Address, contains, host_number, instance_address
from zones.model import Environment, Service
from zones.placement import is_ready_on


def expect(
    wanted: Attachment, environment: Environment | None, me: str, attachments: Iterable[Attachment]
) -> Connected | None:
    """How ``wanted`` will most likely be connected on the host ``me``; None where it is to be recorded first.

    ``environment`` is the newest document of its environment on this host, None if it has none. ``attachments`` are all
    of this host: some may be connected, and not recorded.
    """
    if environment is None or not environment.enabled or wanted.service not in environment.services:
        return None
    here = [one for one in attachments if one.environment == environment.id and one.key != wanted.key]
    attached = ((one.service, one.instance) for one in here if one.phase is Phase.ATTACHED)
    beside = next((one for one in attached if is_ready_on(me, environment, *one)), None)
    address = _address(wanted, environment.services[wanted.service], me, here)
    return Connected(str(address), beside) if beside and address else None


def _address(wanted: Attachment, service: Service, me: str, here: Iterable[Attachment]) -> Address | None:
    if instance := service.instances.get(wanted.instance):
        return instance.address if instance.host in (None, me) else None
    subnet = service.subnet
    taken = [host_number(subnet, one.address) for one in here if one.address and contains(subnet, one.address)]
    return instance_address(subnet, max([service.last_number, *taken]) + 1)
