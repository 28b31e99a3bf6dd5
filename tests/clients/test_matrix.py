"""A choice of the matrix: the resolvers that most containers have, old and new, and proof that they are seen to fail.

The whole of it is `make clients`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.clients import matrix, namespaces
from tests.clients.builds import Build, Unavailable
from tests.clients.controls import CONTROLS, Control
from tests.clients.matrix import Cell
from tests.clients.roster import BY_KEY, CLIENTS, GLIBC, Client
from tests.clients.scenarios import SCENARIOS, Scenario

CHOSEN = [
    BY_KEY["musl-1.2.2"],
    BY_KEY["musl-debian"],
    BY_KEY["musl-1.2.5"],
    *(client for client in CLIENTS if client.family == GLIBC),
    BY_KEY["c-ares"],
    BY_KEY["go"],
    BY_KEY["sockets"],
]
FAULTS = ("nxdomain-for-a", "refused", "lame-nodata", "empty-tc", "address-first", "a-in-aaaa")
_AT_ONCE = 3  # clients; a musl that finds no upstream waits for five seconds

pytestmark = pytest.mark.skipif(bool(matrix.why_not()), reason=f"no clients in namespaces: {matrix.why_not()}")


@pytest.fixture(scope="module")
def builds() -> dict[Client, Build | Unavailable]:
    def make(client: Client) -> Build | Unavailable:
        try:
            return client.make()
        except Unavailable as error:
            return error

    with ThreadPoolExecutor(os.cpu_count()) as threads:
        return dict(zip(CHOSEN, threads.map(make, CHOSEN), strict=True))


@pytest.fixture(scope="module")
def cells(builds: dict[Client, Build | Unavailable]) -> Iterator[dict[Client, dict[str, Cell]]]:
    """What each client makes of each scenario; all clients are run before the first is looked at."""
    namespaces.sweep()
    there = {client: build for client, build in builds.items() if isinstance(build, Build)}
    with matrix.ground() as where, ThreadPoolExecutor(_AT_ONCE) as threads:
        done = threads.map(lambda client: matrix.run(where, client, there[client], SCENARIOS), there)
        yield dict(zip(there, done, strict=True))


@pytest.mark.parametrize("scenario", SCENARIOS, ids=str)
@pytest.mark.parametrize("client", CHOSEN, ids=str)
def test_right_at_the_first_try(
    client: Client,
    scenario: Scenario,
    builds: dict[Client, Build | Unavailable],
    cells: dict[Client, dict[str, Cell]],
) -> None:
    if client not in cells:
        pytest.skip(f"{client} cannot be had: {builds[client]} (tests/clients/setup installs what it can)")
    cell = cells[client][scenario.key]
    assert not cell.applies or not cell.reason


@pytest.mark.parametrize("control", [one for one in CONTROLS if one.fault in FAULTS], ids=lambda control: control.fault)
def test_a_wrong_server_is_noticed(control: Control, builds: dict[Client, Build | Unavailable]) -> None:
    there = {client: build for client, build in builds.items() if isinstance(build, Build)}
    hurt = {client: build for client, build in there.items() if client.key in control.hurts}
    assert hurt, "no client that would notice can be had"
    with matrix.ground(control.fault) as where, ThreadPoolExecutor(len(hurt)) as threads:
        reasons = threads.map(lambda client: matrix.notice(where, control, client, hurt[client]), hurt)
        unnoticed = [client.key for client, reason in zip(hurt, reasons, strict=True) if not reason]
    assert not unnoticed
