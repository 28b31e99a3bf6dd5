"""One workload as its host knows it: which instance it is, where it lives, and what is made for it."""

from __future__ import annotations

import re
from enum import Enum
from pathlib import Path

from msgspec import Struct

from agent.plan.plan import LocalWorkload
from agent.system.namespaces import NamespaceId
from agent.system.veth import Veth, link_name, mac_addresses
from zones import names
from zones.addresses import Address
from zones.names import EnvironmentId

_NAMED_NAMESPACE = re.compile(r"(?:/var)?/run/netns/([^/]+)")


class Phase(Enum):
    """How far an attachment is."""

    ATTACHING = "attaching"
    ATTACHED = "attached"
    DETACHING = "detaching"


class Attachment(Struct, frozen=True, omit_defaults=True):
    """A workload: which instance it is, the namespace that it lives in, and what was made for it.

    ``netns`` is the path of its network namespace, ``interface`` its link in there. ``resolv_conf`` is the file that
    was written for it, ``resolv_conf_before`` what that held. ``container`` is what its runtime calls it.
    ``namespace`` tells its network namespace from a later one at the same path; None if a release
    attached it that did not keep that.
    """

    environment: EnvironmentId
    service: str
    instance: str
    netns: str
    interface: str
    phase: Phase
    address: Address | None = None
    region: str | None = None
    resolv_conf: str | None = None
    resolv_conf_before: str | None = None
    container: str | None = None
    is_draining: bool = False
    namespace: NamespaceId | None = None

    def __post_init__(self) -> None:
        names.check_environment_id(self.environment)
        names.check_service_name(self.service)
        names.check_instance_id(self.instance)
        if self.region is not None:
            names.check_region(self.region)

    def __str__(self) -> str:
        return f"{self.instance}.{self.service} of {self.environment}"

    @property
    def key(self) -> str:
        """What tells it from all others of this host."""
        return key_of(self.environment, self.service, self.instance)

    @property
    def link(self) -> str:
        """The name of the host's end of its veth."""
        return link_name(self.key)

    @property
    def macs(self) -> tuple[str, str]:
        """The MAC addresses of the host's end and of the workload's: locally administered, and always the same."""
        return mac_addresses(self.key)

    @property
    def veth(self) -> Veth:
        """Its veth pair as it should be. Only for an attachment that has an address."""
        assert self.address is not None
        mac, interface_mac = self.macs
        return Veth(self.link, mac, self.interface, interface_mac, self.address, self.netns)

    @property
    def local_workload(self) -> LocalWorkload | None:
        """The workload as the plan of this host has it; None while it has no address, or is being detached."""
        if self.address is None or self.phase is Phase.DETACHING:
            return None
        return LocalWorkload(self.link, self.macs[1], self.environment, self.address)


def key_of(environment: str, service: str, instance: str) -> str:
    """What tells an attachment from all others of its host."""
    return f"{environment}.{service}.{instance}"


def ip_netns_resolv_conf(netns: str) -> Path | None:
    """Where ip-netns(8) looks for the ``resolv.conf`` of the namespace at ``netns``; None for one without a name."""
    match = _NAMED_NAMESPACE.fullmatch(netns)
    return Path("/etc/netns", match[1], "resolv.conf") if match else None
