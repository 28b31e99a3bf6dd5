"""Dead host, dead agent, blocked UDP: what tells them apart."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from agent.examine.facts import Echo, HostFacts, PeerFacts
from interlock.doctor.marks import Report, Standing
from interlock.doctor.peers import judge_peers

SILENT = Echo("fd12:1:1:1::2", "a2.api", "production")
ANSWERED = replace(SILENT, milliseconds=1.0, full_size=True)
PEER = PeerFacts(host="h2", endpoint="192.0.2.2:51820", has_peer=True, pinged=True)
HERE = HostFacts(host="h1", endpoint="192.0.2.1:51820", device="interlock0", mtu=1420, live=("h1", "h2", "h3"))

CASES = [
    # the echoes, the rest of the peer, the live hosts, the cause
    ((ANSWERED,), {}, ("h1", "h2"), ""),
    ((SILENT,), {}, ("h1", "h2"), "tunnel: UDP is blocked"),
    ((SILENT,), {"pinged": False}, ("h1", "h2"), "host: host h2 does not answer at all"),
    ((SILENT,), {}, ("h1",), "host: host h2 is dead"),
    ((SILENT,), {"refused": True}, ("h1", "h2"), "tunnel: the machine of host h2 answers, and nothing there has"),
    ((SILENT,), {"behind_nat": True, "pinged": None}, ("h1", "h2"), "tunnel: nothing comes back from host h2"),
    ((ANSWERED,), {}, ("h1",), "host: the agent of host h2 does not run"),
    ((replace(ANSWERED, full_size=False),), {}, ("h1", "h2"), "mtu: host h2 answers small packets"),
    ((ANSWERED, replace(SILENT, instance="a3.api")), {}, ("h1", "h2"), "attachment: a3.api of production"),
    ((SILENT,), {"received": True}, ("h1", "h2"), ""),
    ((), {}, ("h1", "h2"), ""),
    ((), {"silent": 40.0}, ("h1", "h2"), "tunnel: UDP is blocked"),
    ((), {}, ("h1",), "host: host h2 is not live"),
    ((), {"has_peer": False}, ("h1", "h2"), "applied: WireGuard on this host does not have host h2"),
    ((SILENT,), {}, None, "tunnel: UDP is blocked"),
    ((ANSWERED,), {}, None, ""),
]


@pytest.mark.parametrize(("echoes", "more", "live", "cause"), CASES)
def test_what_tells_causes_apart(
    echoes: tuple[Echo, ...], more: dict[str, object], live: tuple[str, ...] | None, cause: str
) -> None:
    facts = replace(HERE, live=live, peers=(replace(PEER, echoes=echoes, **more),))
    report = Report.of(judge_peers(facts))
    named = f"{report.cause.check}: {report.cause.detail}" if report.cause else ""
    assert named.startswith(cause), report
    assert bool(named) == bool(cause), report


def test_where_no_host_answers_it_is_this_one_that_is_cut_off() -> None:
    peers = tuple(replace(PEER, host=host, echoes=(SILENT,)) for host in ("h2", "h3"))
    (mark,) = judge_peers(replace(HERE, peers=peers))
    assert (mark.standing, "no other host answers" in mark.detail) == (Standing.BROKEN, True)
    # Dead hosts beside each other are no reason to suspect this one.
    marks = list(judge_peers(replace(HERE, live=("h1",), peers=peers)))
    assert ["is dead" in mark.detail for mark in marks] == [True, True]
