"""What the documents, the attachments on disk and the links of this host say differently of one workload. Pure.

    instance here   attachment   link     what it is
    yes             yes          –        no difference
    yes             no           yes      `Unattached`: the attachment is lost, and the workload runs
    not attached    attached     –        `Unmarked`: somebody has moved it away and back, or had forgotten this host
    ready           no           no       `Absent`: nothing runs here under the instance's name
    no              attached     –        `Unrecorded`: somebody has removed the instance, or the store has lost it
    no              no           yes      `Leftover`: nobody knows the link
    yes             begun        –        no difference: the attach ends, or is undone

An instance that is *starting* may be recorded before its workload is attached, so without one it is no difference. Nor
is one that the control plane knows to be not attached.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from agent.attach.attachment import Attachment, Phase, key_of
from agent.system.veth import link_names
from zones.addresses import Address
from zones.model import Environment, Instance, Service, State
from zones.names import EnvironmentId


@dataclass(frozen=True, slots=True)
class Unattached:
    """An instance of this host that has a link and no attachment."""

    environment: EnvironmentId
    service: str
    """The service's name when the link was made."""
    instance: str
    address: Address
    link: str
    """The host's end of its veth."""

    def __str__(self) -> str:
        return (
            f"{self.instance}.{self.service} of {self.environment} is connected, but its attachment is not on the disk:"
            " attach it again"
        )


@dataclass(frozen=True, slots=True)
class Unmarked:
    """An attachment whose instance counts as not attached, and so is not answered."""

    attachment: Attachment
    state: State
    """The state of the instance."""

    def __str__(self) -> str:
        return f"{self.attachment} is attached here, and the control plane counts it as not attached"


@dataclass(frozen=True, slots=True)
class Absent:
    """An instance of this host that is ready and has neither link nor attachment."""

    environment: EnvironmentId
    service: str
    instance: str
    address: Address

    def __str__(self) -> str:
        return (
            f"{self.instance}.{self.service} of {self.environment} is recorded on this host and does not run here:"
            " attach it, or remove it with 'interlock instance delete'"
        )


@dataclass(frozen=True, slots=True)
class Unrecorded:
    """An attachment whose instance the document does not have on this host."""

    attachment: Attachment

    def __str__(self) -> str:
        return f"{self.attachment} is attached here, but the control plane does not have it on this host"


@dataclass(frozen=True, slots=True)
class Leftover:
    """A link of the agent's that neither an attachment nor an instance explains."""

    link: str

    def __str__(self) -> str:
        return f"the link {self.link} belongs to no workload: it was left behind, and is removed soon"


Difference = Unattached | Unmarked | Absent | Unrecorded | Leftover


def compare(
    me: str,
    environments: Mapping[EnvironmentId, Environment],
    attachments: Collection[Attachment],
    links: Mapping[str, str],
) -> list[Difference]:
    """The differences between the documents of ``environments``, the attachments and the ``links`` of the host ``me``.

    ``links`` are the host's ends of all its workloads' veths, each with the key of the attachment that it was made for,
    or with an empty text where it does not tell.
    """
    attached = {(one.environment, one.address): one for one in attachments}
    begun = {one.key for one in attachments if one.phase is Phase.ATTACHING}
    known = {one.link for one in attachments}
    unexplained = {link: owner for link, owner in links.items() if link not in known}
    recorded = set()
    found: list[Difference] = []
    for environment, name, service, id_, instance in _instances(me, environments.values()):
        recorded.add((environment.id, instance.address))
        if attachment := attached.get((environment.id, instance.address)):
            if attachment.phase is Phase.ATTACHED and not instance.attached:
                found.append(Unmarked(attachment, instance.state))
            continue
        if any(key_of(environment.id, known_as, id_) in begun for known_as in (name, *service.former_names)):
            continue  # the attachment gets its address when its attach ends
        at = _link(environment.id, name, service, id_, unexplained)
        if at is not None:
            del unexplained[at[1]]
            found.append(Unattached(environment.id, at[0], id_, instance.address, at[1]))
        elif instance.state is State.READY and instance.attached:
            found.append(Absent(environment.id, name, id_, instance.address))
    found += [
        Unrecorded(one)
        for one in attachments
        if one.phase is Phase.ATTACHED and (one.environment, one.address) not in recorded
    ]
    return found + [Leftover(link) for link in sorted(unexplained)]


def _instances(
    me: str, environments: Iterable[Environment]
) -> Iterator[tuple[Environment, str, Service, str, Instance]]:
    for environment in environments:
        for name, service in environment.services.items():
            for id_, instance in service.instances.items():
                if instance.host == me:
                    yield environment, name, service, id_, instance


def _link(
    environment: EnvironmentId, name: str, service: Service, id_: str, links: Mapping[str, str]
) -> tuple[str, str] | None:
    """The service's name and the link of an instance, if one of ``links`` is its: a rename does not change the link."""
    if not links:
        return None
    owned = {owner: link for link, owner in links.items()}
    for known in (name, *service.former_names):
        key = key_of(environment, known, id_)
        if key in owned:
            return known, owned[key]
        # A link of an earlier release does not tell its owner, and has the first of its possible names.
        first = next(link_names(key))
        if links.get(first) == "":
            return known, first
    return None
