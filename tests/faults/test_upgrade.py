"""An upgrade from the last release that wrote environments whole, and the way back, as deploy/README.md says it.

There are two resolvers, and clients ask both of them all the time; who is not answered by one asks the other. The
control plane is one, and is upgraded while both go on.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from interlock.errors import ApiRefused
from tests.faults.releases import LAST_WHOLE, STAND_IN, THIS, Installation, from_history
from tests.faults.test_mass_deletion import MEMORY_ONLY, StartStore, start_store
from tests.interlock.processes import wait_until

__all__ = ["start_store"]

FIRST, SECOND = "first", "second"
QUERIES = 300  # of each prober, in each state of the installation


@pytest.fixture
def installation(start_store: StartStore, tmp_path: Path) -> Iterator[Installation]:
    made = Installation(tmp_path, start_store(*MEMORY_ONLY))
    yield made
    made.close()


def test_an_upgrade_and_the_way_back(installation: Installation, tmp_path: Path) -> None:
    here, older = installation, from_history(LAST_WHOLE, tmp_path / "older")
    print("the older release is", "that of the history" if older else "a stand-in: the history does not have it here")
    older = older or STAND_IN
    here.run_admin(older)
    here.populate()
    for name in (FIRST, SECOND):
        here.run_resolver(name, older)
    with here.prober(FIRST) as one, here.prober(SECOND) as two:

        def check(*answering: str) -> None:
            """Asks for a while, and that each commit is answered."""
            here.commit(*answering)
            for prober in (one, two):
                prober.until_asked(QUERIES)
                assert (prober.wrong, prober.unanswered) == ({}, 0)

        check(FIRST, SECOND)

        # The upgrade: readers first. While an older one goes on, the control plane writes what it reads.
        here.run_resolver(FIRST, THIS)
        check(FIRST, SECOND)
        here.run_admin(THIS, "--redis-whole")
        check(FIRST, SECOND)
        assert here.differences == 0

        # Forgotten once: the older one goes on with what it read last, and says so, until all is whole again.
        here.run_admin(THIS)
        check(FIRST)
        assert here.differences == 1
        wait_until(lambda: here.is_quarantined(SECOND))
        here.run_admin(THIS, "--redis-whole")
        here.fold()
        check(FIRST, SECOND)
        assert not here.is_quarantined(SECOND)

        here.run_resolver(SECOND, THIS)
        here.run_admin(THIS)
        check(FIRST, SECOND)
        assert here.differences > 0

        # The way back: writers first.
        here.run_admin(THIS, "--redis-whole")
        here.fold()
        assert here.differences == 0
        here.run_admin(older)
        check(FIRST, SECOND)
        for name in (FIRST, SECOND):
            here.run_resolver(name, older)
            check(FIRST, SECOND)
        assert not here.is_quarantined(FIRST)
        assert not here.is_quarantined(SECOND)
    print(
        f"{one.asked + two.asked} queries, {one.turned + two.turned} of them put to the other resolver, 0 wrong or lost"
    )


def test_the_stand_in_is_what_an_older_release_is(installation: Installation) -> None:
    """It reads what was written whole, quarantines what has differences, and does not write that."""
    here = installation
    here.run_admin(THIS)
    here.populate()
    here.run_resolver(FIRST, STAND_IN)
    here.commit()
    assert here.differences == 1
    wait_until(lambda: here.is_quarantined(FIRST))
    with here.prober(FIRST) as prober:
        prober.until_asked(QUERIES)
    assert (prober.wrong, prober.unanswered) == ({}, 0)
    here.run_admin(STAND_IN)
    with pytest.raises(ApiRefused, match="damaged in the store"):
        here.commit()
