"""Comparing the documents with this host, at the start and now and then, and settling each difference that stays.

    Unattached    the attachment is made again from the document and from the namespace that the link leads to; at once
    Unmarked      the control plane is told that it is attached
    Absent        the instance goes back to *starting*, and counts as not attached: no name of it is answered, and its
                  record stays
    Unrecorded    removed by somebody: detached; lost by the store, which is older than the attach: recorded again
    Leftover      the link is removed

No instance is deleted because something is absent here. A difference that cannot be settled is named.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

from agent.attach.attacher import Attacher
from agent.attach.attachment import Attachment, Phase, ip_netns_resolv_conf, key_of
from agent.attach.differences import Absent, Difference, Leftover, Unattached, Unmarked, Unrecorded, compare
from agent.errors import AgentError
from agent.mesh.mesh import Mesh
from agent.plan.plan import LocalWorkload
from agent.system import resolv_conf
from agent.system.namespaces import identify, opened
from agent.system.netlink import call_with_links
from agent.system.veth import LINK_PREFIX, find_workload_end, link_names, mac_addresses

COMPARE_INTERVAL = 5.0  # seconds between two comparisons
GRACE = {
    # Seconds that a difference stays before it is settled. What is published lags behind what was committed.
    Unattached: 0.0,
    Unmarked: 1.0,
    Unrecorded: 3.0,
    Absent: 15.0,  # a platform may record an instance just before it attaches the workload
    Leftover: 15.0,
}

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Comparison:
    """Compares what the documents have on this host with what this host has."""

    mesh: Mesh
    """What is published to this host, and its links."""
    attacher: Attacher
    """Detaches, and changes records."""
    since: dict[Difference, float] = field(default_factory=dict)
    """The differences that the last comparison found, each with the monotonic time when it was first seen."""
    _next: float = 0.0
    """When the next comparison is due, in monotonic seconds."""
    _problems: dict[Difference, str] = field(default_factory=dict)
    """Why a difference could not be settled."""

    @property
    def problems(self) -> list[str]:
        """Each difference as a sentence that says what to do."""
        return [f"{one}{self._problems.get(one, '')}" for one in self.since]

    def unattached_workloads(self) -> Iterator[LocalWorkload]:
        """The workloads that run here and whose attachments are lost: they stay connected.

        So do those whose attachments have no address: the agent before was killed when they had been committed.
        """
        actual = self.mesh.status.actual
        attachments = [one for one in self.attacher.attachments if one.address or one.phase is Phase.DETACHING]
        if actual is None or actual.routes.links <= {one.link for one in attachments}:
            return
        owners = actual.routes.owners
        for one in self._compare(attachments, {link: owners.get(link, "") for link in actual.routes.links}):
            if isinstance(one, Unattached) and self.mesh.system.links.is_up(one.link):
                key = key_of(one.environment, one.service, one.instance)
                yield LocalWorkload(one.link, mac_addresses(key)[1], one.environment, one.address, key)

    async def run_if_due(self, now: float) -> None:
        """Compares and settles, if it is time; ``now`` is the monotonic time."""
        if now < self._next:
            return
        self._next = now + COMPARE_INTERVAL
        owners = actual.routes.owners if (actual := self.mesh.status.actual) else {}
        links = {link: owners.get(link, "") for link in self.mesh.system.links.named(LINK_PREFIX)}
        self.since = {one: self.since.get(one, now) for one in self._compare(list(self.attacher.attachments), links)}
        self._problems = {one: text for one, text in self._problems.items() if one in self.since}
        for one, since in self.since.items():
            if now - since >= GRACE[type(one)]:
                try:
                    await self._settle(one)
                except AgentError as error:
                    self._note(one, f": {error}")

    def _compare(self, attachments: Collection[Attachment], links: Mapping[str, str]) -> list[Difference]:
        unreadable = self.attacher.attachments.unreadable
        unreadable_links = {next(link_names(key)) for key in unreadable}
        found = compare(self.mesh.identity.id, self.mesh.published.environments, attachments, links)
        return [
            one
            for one in found
            if not (isinstance(one, Leftover) and (links[one.link] in unreadable or one.link in unreadable_links))
        ]

    async def _settle(self, difference: Difference) -> None:
        match difference:
            case Unattached():
                await self._recover(difference)
            case Unmarked(attachment, state):
                await self.attacher.mark_attached(attachment, state)
                self._warn("instance_marked_attached", difference)
            case Absent():
                if await self.attacher.withdraw_absent(difference.environment, difference.service, difference.instance):
                    self._warn("instance_absent", difference)
            case Unrecorded(attachment):
                await self.attacher.settle_unrecorded(attachment)
            case Leftover(link):
                if all(one.link != link for one in self.attacher.attachments):
                    await call_with_links(lambda links: links.remove(link))
                    self._warn("link_removed", difference)

    async def _recover(self, lost: Unattached) -> None:
        """Makes the attachment of ``lost`` again, if a path leads to the namespace of its workload."""
        found = await call_with_links(lambda links: find_workload_end(links, lost.link))
        if found is None:
            self._note(lost, ", since no path leads to its namespace")
            return
        netns, interface = found
        with opened(netns) as namespace:
            id_ = await identify(namespace)
        path, text = ip_netns_resolv_conf(netns), resolv_conf.render(self.mesh.platform)
        attachment = Attachment(
            environment=lost.environment,
            service=lost.service,
            instance=lost.instance,
            netns=netns,
            interface=interface,
            phase=Phase.ATTACHED,
            address=lost.address,
            resolv_conf=str(path) if path and resolv_conf.is_written(path, text) else None,
            namespace=id_,
            link_name=lost.link,
        )
        await self.attacher.attachments.put(attachment)
        self._warn("attachment_recovered", lost, netns=netns)

    def _note(self, difference: Difference, problem: str) -> None:
        if self._problems.get(difference) != problem:  # once, not with every comparison
            self._problems[difference] = problem
            log.warning("difference_stays", extra={"reason": f"{difference}{problem}"})

    def _warn(self, event: str, difference: Difference, **fields: object) -> None:
        log.warning(event, extra={"reason": str(difference), **fields})
