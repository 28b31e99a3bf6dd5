"""What the kernel notifies of: what somebody else has deleted, and not what the agent itself deletes. For real."""

from __future__ import annotations

import asyncio

from agent.system.monitor import NetlinkMonitor
from agent.system.netlink import Links, call_with_links
from tests.agent.inside import run
from tests.namespaces import Namespace
from tests.waiting import until
from zones.addresses import Address

ADDRESS = Address.parse("fd12::2")


def test_what_the_agent_removes_is_passed_over_and_what_others_remove_meanwhile_is_not(space: Namespace) -> None:
    space.ip(
        [f"link add rail{number} type veth peer name other{number}" for number in (1, 2)]
        + [f"link set {end}{number} up" for number in (1, 2) for end in ("rail", "other")]
        + [f"address add fd12::{number}/128 dev rail{number}" for number in (1, 2)]
        + [f"route add fd12::{number}1/128 dev rail{number}" for number in (1, 2)]
    )

    async def main() -> tuple[int, int]:
        links, noticed = Links(), list[None]()
        monitor = NetlinkMonitor(lambda: noticed.append(None))
        monitor.start()
        try:
            with monitor.expecting(links.index("rail1")), monitor.expecting(links.index("other1")):
                assert await call_with_links(lambda own: own.remove("rail1"))
            await asyncio.sleep(0)
            own = len(noticed)
            with monitor.expecting(links.index("other2")):  # one that stays
                await call_with_links(lambda own: own.remove_address("rail2", ADDRESS))
            await until(lambda: len(noticed) > own)
            return own, len(noticed)
        finally:
            monitor.stop()
            links.close()

    own, with_others = run(space, main())
    assert own == 0
    assert with_others > 0
