"""Which drop counters are worth a word."""

from __future__ import annotations

from agent.plan.drops import FEW, MEANINGS, WINDOW, RecentDrops
from agent.plan.firewall import LINK
from agent.system.nftables import CHAINS


def test_a_counter_that_grows_is_named_and_soon_forgotten() -> None:
    drops = RecentDrops()
    drops.note({LINK: 1000, "between": 5}, 0.0)
    assert list(drops.many()) == []  # what happened before this agent started is not its news
    drops.note({LINK: 1000 + FEW, "between": 5 + FEW + 1}, 5.0)
    assert list(drops.many()) == [("between", FEW + 1, 5.0)]
    drops.note({LINK: 1000 + FEW, "between": 5 + FEW + 1}, 5.0 + WINDOW)
    assert list(drops.many()) == []


def test_a_firewall_that_was_made_anew_counts_from_zero() -> None:
    drops = RecentDrops()
    drops.note({"between": 500}, 0.0)
    drops.note({"between": 2}, 5.0)
    assert list(drops.many()) == []
    drops.note({"between": 3 + FEW}, 10.0)
    assert list(drops.many()) == [("between", FEW + 1, 5.0)]


def test_every_counter_has_its_meaning() -> None:
    assert MEANINGS.keys() == {LINK, *CHAINS}
