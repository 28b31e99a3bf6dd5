"""Judges the other hosts, by their leases and by the probes through the tunnel."""

from __future__ import annotations

from collections.abc import Iterator

from agent.examine.facts import HostFacts, PeerFacts
from interlock.doctor.marks import Mark, broken, ok, warning

RESTART_AGENT = "systemctl restart interlock-agent"
LOST = 180.0  # seconds after its handshake for which WireGuard uses a session at most (Reject-After-Time)


def judge_peers(facts: HostFacts) -> Iterator[Mark]:
    """The marks of the hosts that share an environment with this one."""
    cut_off = [peer for peer in facts.peers if is_cut_off(peer)]
    lost_all = len(facts.peers) > 1 and len(cut_off) == len(facts.peers)
    if lost_all and not any(_is_dead(peer, facts) for peer in cut_off):
        # One cause, and not as many as there are hosts.
        yield broken(
            "tunnel",
            f"no other host answers through the tunnel ({', '.join(peer.host for peer in cut_off)}), so it is this host"
            f" that is cut off: its uplink, or a firewall that drops UDP to or from {facts.endpoint}",
            f"open UDP port {_port(facts.endpoint)} of this host in both directions, and look at its network:"
            " ip -s link",
        )
        return
    for peer in facts.peers:
        yield from _judge_peer(peer, facts)


def is_cut_off(peer: PeerFacts) -> bool:
    """Whether nothing came back from ``peer`` though something was sent to it."""
    return not _answers(peer) and bool(peer.echoes or peer.silent is not None)


def _judge_peer(peer: PeerFacts, facts: HostFacts) -> Iterator[Mark]:
    is_live = None if facts.live is None else peer.host in facts.live
    if not peer.has_peer:
        yield broken(
            "applied",
            f"WireGuard on this host does not have host {peer.host} as a peer",
            f"interlock mesh; if it says nothing of {peer.host}: {RESTART_AGENT}",
        )
    elif _answers(peer):
        yield from _judge_answering(peer, facts, is_live)
    elif is_cut_off(peer):
        yield _judge_cut_off(peer, facts, is_live)
    elif is_live is False:
        yield _not_live(peer)
    else:
        yield _judge_unprobed(peer)


def _judge_unprobed(peer: PeerFacts) -> Mark:
    """The mark of a peer to which nothing was sent, for want of a workload here or there."""
    if peer.handshake_age is not None and peer.handshake_age < LOST:
        return ok("tunnel", f"host {peer.host} had its handshake {peer.handshake_age:.0f} s ago")
    return ok("tunnel", f"host {peer.host}: no workload to probe with is on both hosts, and it owes no packet")


def _judge_answering(peer: PeerFacts, facts: HostFacts, is_live: bool | None) -> Iterator[Mark]:
    times = [echo.milliseconds for echo in peer.echoes if echo.milliseconds is not None]
    took = f" in {min(times):g} ms" if times else ""
    if is_live is False:
        yield broken(
            "host",
            f"the agent of host {peer.host} does not run, or cannot do its work: its lease has ended, and the host"
            f" itself answers through the tunnel{took}",
            f"on {peer.host}: {RESTART_AGENT}; journalctl -u interlock-agent -n 50",
        )
    yield ok("tunnel", f"host {peer.host} answers through the tunnel{took}")
    if times and not any(echo.full_size for echo in peer.echoes):
        yield broken(
            "mtu",
            f"host {peer.host} answers small packets and none of {facts.mtu} octets: the underlay between the two"
            " hosts carries less than the MTU of its links says, so that connections hang once they send much",
            f"on both hosts set the MTU of the underlay's link to what passes (ping -M do -s {facts.mtu + 52}"
            f" {_address(peer.endpoint)} finds it): ip link set DEVICE mtu OCTETS; the agent follows it",
        )
    for echo in peer.echoes:
        if echo.milliseconds is None and times:
            yield warning(
                "attachment",
                f"{echo.instance} of {echo.environment} does not answer at {echo.address}, though its host {peer.host}"
                " does",
                f"on {peer.host}: interlock doctor {echo.instance} -e {echo.environment}",
            )


def _judge_cut_off(peer: PeerFacts, facts: HostFacts, is_live: bool | None) -> Mark:
    if _is_dead(peer, facts):
        return broken(
            "host",
            f"host {peer.host} is dead: its lease has ended, and nothing comes back from {peer.endpoint} through the"
            " tunnel",
            f"start the machine or its network; if it never comes back: interlock host forget {peer.host}",
        )
    if peer.refused:
        return broken(
            "tunnel",
            f"the machine of host {peer.host} answers, and nothing there has the UDP port of {peer.endpoint}: its"
            " WireGuard device is gone",
            f"on {peer.host}: {RESTART_AGENT}",
        )
    if peer.pinged is False:
        return broken(
            "host",
            f"host {peer.host} does not answer at all, neither through the tunnel nor its machine at"
            f" {_address(peer.endpoint)}: it is dead or cut off, and its lease has not ended yet; or a firewall drops"
            " all that this host sends there",
            f"start the machine or its network; if it runs: open UDP port {_port(peer.endpoint)} of {peer.host} and UDP"
            f" port {_port(facts.endpoint)} of this host to each other",
        )
    lives = "its lease is renewed" if is_live else "whether it lives is not known"
    if peer.behind_nat:
        return broken(
            "tunnel",
            f"nothing comes back from host {peer.host} through the tunnel, and {lives}: it is behind NAT, and has to"
            " begin",
            f"open UDP port {_port(facts.endpoint)} of this host to it, and on {peer.host}: {RESTART_AGENT}",
        )
    return broken(
        "tunnel",
        f"UDP is blocked between this host ({facts.endpoint}) and host {peer.host} ({peer.endpoint}): nothing comes"
        f" back through the tunnel, and {lives}",
        f"open UDP port {_port(peer.endpoint)} of {peer.host} and UDP port {_port(facts.endpoint)} of this host to each"
        " other, in the firewalls of both and of the provider",
    )


def _not_live(peer: PeerFacts) -> Mark:
    return broken(
        "host",
        f"host {peer.host} is not live: its lease has ended, and there is no workload here to probe it with",
        f"start the machine or its agent: {RESTART_AGENT}; if it never comes back: interlock host forget {peer.host}",
    )


def _answers(peer: PeerFacts) -> bool:
    return peer.received or any(echo.milliseconds is not None for echo in peer.echoes)


def _is_dead(peer: PeerFacts, facts: HostFacts) -> bool:
    return facts.live is not None and peer.host not in facts.live


def _port(endpoint: str) -> str:
    return endpoint.rpartition(":")[2]


def _address(endpoint: str) -> str:
    return endpoint.rpartition(":")[0].strip("[]")
