"""The address that a workload will have, as its host can know it before the workload is recorded.

A host that has members of an environment follows the environment's document, and the document says which host number a
service gives next. So the workload can be connected at that address first, and recorded once, as ready. Another host
may come first: then the control plane gives the instance another address, and has it wait until it is connected anew.
"""

from __future__ import annotations

from collections.abc import Iterable

from agent.attach.attachment import Attachment
from zones.addresses import Address, contains, host_number, instance_address
from zones.model import Environment


def expected_address(
    wanted: Attachment, environment: Environment | None, me: str, attachments: Iterable[Attachment]
) -> Address | None:
    """The address that ``wanted`` will most likely have on the host ``me``; None where it is to be recorded first.

    ``environment`` is the newest document of its environment on this host, None if it has none: then other hosts are
    not known here, and cannot reach it. ``attachments`` are all of this host: some may be connected, and not recorded.
    """
    service = environment and environment.enabled and environment.services.get(wanted.service)
    if not service:
        return None
    if instance := service.instances.get(wanted.instance):
        return instance.address if instance.host in (None, me) else None
    subnet = service.subnet
    here = (one.address for one in attachments if one.environment == wanted.environment)
    taken = [host_number(subnet, address) for address in here if address and contains(subnet, address)]
    return instance_address(subnet, max([service.last_number, *taken]) + 1)
