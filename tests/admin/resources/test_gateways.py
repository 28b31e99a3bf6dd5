"""Which host becomes the gateway of a new peer."""

from __future__ import annotations

import pytest

from admin.resources.gateways import choose_gateway
from tests import worlds
from tests.admin.api import make_host
from zones.edits import PutInstance, PutService
from zones.errors import Conflict

ALL = frozenset({"h1", "h2", "h3", "h4", "h5"})
DRAINING = {"h4"}
BEHIND_NAT = {"h5"}
HOSTS = {
    f"h{number}": make_host(number, draining=f"h{number}" in DRAINING, behind_nat=f"h{number}" in BEHIND_NAT)
    for number in (1, 2, 3, 4, 5)
}


@pytest.mark.parametrize(
    ("live", "members", "chosen"),
    [
        (ALL, ["h2"], {"h2"}),  # one that knows the environment anyway
        (ALL, ["h1", "h3"], {"h1", "h3"}),
        (ALL, [], {"h1", "h2", "h3"}),
        (ALL, ["h4"], {"h1", "h2", "h3"}),  # it is draining
        (ALL, ["h5"], {"h1", "h2", "h3"}),  # it is behind NAT
        (ALL - {"h2"}, ["h2"], {"h1", "h3"}),  # it has died
        (ALL, ["gone"], {"h1", "h2", "h3"}),  # it is not registered
        ({"h3"}, ["h1"], {"h3"}),
    ],
)
def test_peers_are_spread_over_the_hosts_that_are_best(
    live: frozenset[str], members: list[str], chosen: set[str]
) -> None:
    placed = (PutInstance("api", f"i-{host}", host=host) for host in members)
    environment = worlds.build("production", 7, PutService("api"), *placed)
    assert {choose_gateway(f"peer{number}", environment, HOSTS, live) for number in range(100)} == chosen


def test_the_same_peer_is_given_the_same() -> None:
    environment = worlds.build("production", 7)
    assert (
        len({choose_gateway("laptop", environment, dict(hosts), ALL) for hosts in (HOSTS, reversed(HOSTS.items()))})
        == 1
    )


@pytest.mark.parametrize("live", [set(), DRAINING, BEHIND_NAT, {"gone"}])
def test_no_host_is_fit(live: set[str]) -> None:
    with pytest.raises(Conflict, match="none is alive, not draining and not behind NAT"):
        choose_gateway("laptop", worlds.build("production", 7), HOSTS, live)
