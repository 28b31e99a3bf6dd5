"""One workload as its host knows it: which instance it is, its network namespace, and the names of what it gets."""

from __future__ import annotations

import re
from enum import Enum
from pathlib import Path

from msgspec import Struct

from agent.plan.plan import LocalWorkload
from agent.system.namespaces import NamespaceId
from agent.system.veth import Veth, link_names, mac_addresses
from zones import names
from zones.addresses import Address
from zones.names import EnvironmentId

_NAMED_NAMESPACE = re.compile(r"(?:/var)?/run/netns/([^/]+)")


class Phase(Enum):
    """How far an attach or a detach has come."""

    ATTACHING = "attaching"
    ATTACHED = "attached"
    DETACHING = "detaching"


class Attachment(Struct, frozen=True, omit_defaults=True):
    """A workload that is attached, or is being attached or detached."""

    environment: EnvironmentId
    service: str
    """The service's name when the workload was attached. The service may have been renamed since."""
    instance: str
    """The id of the instance, unique within its service."""
    netns: str
    """The path of the workload's network namespace."""
    interface: str
    """The name of the workload's link, in its namespace."""
    phase: Phase
    address: Address | None = None
    """The instance's address; None until its record is committed for the first time."""
    region: str | None = None
    """The instance's region; None for the region of the host."""
    resolv_conf: str | None = None
    """The path of the file that is written for the workload; None if none is."""
    resolv_conf_before: str | None = None
    """What that file held before the attach; None if it did not exist, or held the same."""
    container: str | None = None
    """The name that the CNI plugin gave the workload; None if it was attached in another way."""
    is_draining: bool = False
    """Whether the instance is out of its service's answers, because the host is being drained."""
    namespace: NamespaceId | None = None
    """What tells the network namespace from any later one at the same path; None if an older release attached it."""
    link_name: str | None = None
    """The name of the host's end of its veth; None for the first of its possible names."""
    revision: int = 0
    """The environment's revision when its record was last committed here; 0 if an older release attached it."""

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
        """The key that identifies it among all attachments of this host."""
        return key_of(self.environment, self.service, self.instance)

    @property
    def link(self) -> str:
        """The name of the host's end of its veth."""
        return self.link_name or next(link_names(self.key))

    @property
    def macs(self) -> tuple[str, str]:
        """The MAC addresses of the host's end and of the workload's: locally administered, and always the same."""
        return mac_addresses(self.key)

    @property
    def veth(self) -> Veth:
        """Its veth pair as it should be. Only for an attachment that has an address."""
        assert self.address is not None
        mac, interface_mac = self.macs
        return Veth(self.link, mac, self.interface, interface_mac, self.address, self.netns, self.key)

    @property
    def local_workload(self) -> LocalWorkload | None:
        """The workload as the plan of this host has it; None while it has no address.

        One that is being detached is planned as long as a document has it: until then its names may be answered.
        """
        if self.address is None:
            return None
        return LocalWorkload(self.link, self.macs[1], self.environment, self.address, self.key)


def key_of(environment: str, service: str, instance: str) -> str:
    """The key of an attachment, which identifies it among all of its host."""
    return f"{environment}.{service}.{instance}"


def ip_netns_resolv_conf(netns: str) -> Path | None:
    """Where ip-netns(8) looks for the ``resolv.conf`` of the namespace at ``netns``; None for one without a name."""
    match = _NAMED_NAMESPACE.fullmatch(netns)
    return Path("/etc/netns", match[1], "resolv.conf") if match else None
